// What a kernel became: registers and memory from the assembler's words, instructions from the disassembly, parameters from the PTX.

/**
 * @typedef {object} Resources
 * @property {number} registers a thread
 * @property {number} sharedBytes static, a block
 * @property {number} stackBytes a thread
 * @property {number} spillBytes stores and loads a thread
 */

/** Resources by kernel. @param {string} log of NVRTC with --ptxas-options=-v @returns {Map<string, Resources>} */
export function resources(log) {
  const found = new Map();
  for (const part of log.split(/Compiling entry function '/).slice(1)) {
    const name = part.slice(0, part.indexOf("'"));
    // The entry's own properties come first; functions it calls may follow.
    const own = part.slice(part.indexOf(`Function properties for ${name}`));
    const [, stack, stores, loads] =
      own.match(/(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/) ?? [];
    found.set(name, {
      registers: Number(part.match(/Used (\d+) registers/)?.[1]),
      sharedBytes: Number(part.match(/(\d+) bytes smem/)?.[1] ?? 0),
      stackBytes: Number(stack),
      spillBytes: Number(stores) + Number(loads),
    });
  }
  return found;
}

/**
 * @typedef {object} Instructions
 * @property {number} loads16 16-byte loads of global memory, to registers or straight to shared memory
 * @property {number} products of tensor cores
 * @property {number} local loads and stores of local memory: spills, and arrays that are indexed at run time
 * @property {number} total
 */

/** Instructions by kernel. @param {string} disassembly of nvdisasm -c @returns {Map<string, Instructions>} */
export function instructions(disassembly) {
  const found = new Map();
  for (const part of disassembly.split(/^\.text\./m).slice(1)) {
    const name = part.slice(0, part.indexOf(':'));
    const body = part.split(/^\/\/-{5,}/m)[0] ?? '';
    const codes = [...body.matchAll(/\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)/g)].map(
      (match) => match[1] ?? '',
    );
    const count = (/** @type {RegExp} */ pattern) => codes.filter((code) => pattern.test(code)).length;
    found.set(name, {
      loads16: count(/^LDG(STS)?\.(\w+\.)*128\b/),
      products: count(/^([IHQ]G?MMA|UTC\w*MMA)\./),
      local: count(/^(LDL|STL)\b/),
      total: codes.filter((code) => code !== 'NOP').length,
    });
  }
  return found;
}

const widths = /** @type {Record<string, number>} */ ({ 8: 1, 16: 2, 32: 4, 64: 8 });

/** Bytes of each parameter, by kernel. @param {string} ptx @returns {Map<string, number[]>} */
export function parameters(ptx) {
  const found = new Map();
  for (const [, name, list] of ptx.matchAll(/\.entry\s+(\w+)\s*\(([^)]*)\)/g)) {
    const sizes = [
      ...(list ?? '').matchAll(
        /\.param\s+(?:\.align\s+\d+\s+)?\.[usbf](\d+)\s+(?:\.ptr[^,\n]*\s)?\s*\w+(?:\[(\d+)\])?/g,
      ),
    ];
    found.set(
      name,
      sizes.map(([, bits, many]) => (widths[bits ?? ''] ?? 0) * Number(many ?? 1)),
    );
  }
  return found;
}
