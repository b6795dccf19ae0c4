// What is written of compiled kernels, and what is held against them.

/**
 * @typedef {object} Declaration as `kernel!` in Rust has it (src/declarations.rs prints it)
 * @property {string} file
 * @property {string} kernel
 * @property {number[]} sizes bytes of each parameter
 * @property {number} loads16 at least so many 16-byte loads
 * @property {number} products at least so many products of tensor cores
 */

/**
 * @typedef {object} Row
 * @property {string} file
 * @property {string} kernel
 * @property {string} target
 * @property {number} registers
 * @property {number} sharedBytes
 * @property {number} stackBytes
 * @property {number} spillBytes
 * @property {number} loads16
 * @property {number} products
 * @property {number} local
 * @property {number} total
 */

/** What is wrong with kernels as they were compiled. @param {Row[]} rows @param {Declaration[]} declarations @param {Map<string, number[]>} parameters by kernel, from the PTX @returns {string[]} */
export function faults(rows, declarations, parameters) {
  const found = [];
  for (const row of rows) {
    const declared = declarations.find((one) => one.kernel === row.kernel);
    const at = `${row.file}.cu ${row.kernel} (${row.target})`;
    if (!declared) {
      found.push(`${at}: no launcher declares it`);
      continue;
    }
    if (row.spillBytes > 0) found.push(`${at}: ${row.spillBytes} bytes of registers are spilled`);
    if (row.local > 0) found.push(`${at}: ${row.local} loads and stores of local memory`);
    if (row.loads16 < declared.loads16)
      found.push(`${at}: ${row.loads16} loads of 16 bytes, ${declared.loads16} are declared`);
    if (row.products < declared.products)
      found.push(`${at}: ${row.products} tensor core products, ${declared.products} are declared`);
  }
  for (const { kernel, sizes, file } of declarations) {
    const compiled = parameters.get(kernel);
    if (!compiled) found.push(`${file}.cu: has no kernel ${kernel}`);
    else if (compiled.join() !== sizes.join())
      found.push(`${kernel}: parameters of ${compiled} bytes, declared with ${sizes}`);
  }
  return found;
}

/** Rows in which two reports differ, as lines. @param {Row[]} before @param {Row[]} now @returns {string[]} */
export function differences(before, now) {
  const key = (/** @type {Row} */ row) => `${row.file}.cu ${row.kernel} (${row.target})`;
  const old = new Map(before.map((row) => [key(row), row]));
  const found = [];
  for (const row of now) {
    const was = old.get(key(row));
    old.delete(key(row));
    if (!was) found.push(`${key(row)}: not in the table`);
    else {
      const changed = Object.keys(row).filter(
        (name) => row[/** @type {keyof Row} */ (name)] !== was[/** @type {keyof Row} */ (name)],
      );
      if (changed.length > 0)
        found.push(
          `${key(row)}: ${changed.map((name) => `${name} ${was[/** @type {keyof Row} */ (name)]}, now ${row[/** @type {keyof Row} */ (name)]}`).join('; ')}`,
        );
    }
  }
  return [...found, ...[...old.keys()].map((name) => `${name}: in the table, and gone`)];
}

/** One line a kernel: the range over the targets. @param {Row[]} rows */
export function table(rows) {
  const lines = [
    '| file | kernel | registers | shared, bytes | spilled, bytes | local | 16-byte loads | products | instructions |',
    '|---|---|---|---|---|---|---|---|---|',
  ];
  const kernels = [...new Set(rows.map((row) => `${row.file} ${row.kernel}`))];
  for (const name of kernels) {
    const of = rows.filter((row) => `${row.file} ${row.kernel}` === name);
    const range = (/** @type {keyof Row} */ key) => {
      const values = of.map((row) => Number(row[key]));
      const [low, high] = [Math.min(...values), Math.max(...values)];
      return low === high ? `${low}` : `${low} to ${high}`;
    };
    const keys = /** @type {(keyof Row)[]} */ ([
      'registers',
      'sharedBytes',
      'spillBytes',
      'local',
      'loads16',
      'products',
      'total',
    ]);
    lines.push(`| ${name.replace(' ', ' | ')} | ${keys.map(range).join(' | ')} |`);
  }
  return `${lines.join('\n')}\n`;
}
