// `node scripts/kernels/main.mjs`: compiles the CUDA kernels and writes what they became to docs/results/<date>-kernels. Build with them:
// CTKVR_CUDA_KERNELS=.tools/kernels scripts/cargo build …
// `--check`: compares with the newest such table in place of writing one, and fails where they differ. Either way it fails for spills, local
// memory, and 16-byte loads or tensor core products that a kernel declares and does not have. `--only a,b`: these .cu files, nothing written.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../lib/exec.mjs';
import { runMain, SetupError, say } from '../lib/messages.mjs';
import { root } from '../lib/paths.mjs';
import { compileKernels } from './compile.mjs';
import { instructions, parameters, resources } from './machine-code.mjs';
import { differences, faults, table } from './report.mjs';
import { cudaTools, provideCudaTools } from './tools.mjs';

const resultsDir = join(root, 'docs/results');

/** @param {import('./compile.mjs').Compiled[]} compiled @returns {Promise<import('./report.mjs').Row[]>} */
async function rowsOf(compiled) {
  const rows = [];
  for (const { file, target, image, log } of compiled.filter((one) => one.target.startsWith('sm_'))) {
    const { code, stdout, output } = await run({ command: cudaTools.disassembler, args: ['-c', image] });
    if (code !== 0) throw new SetupError(`nvdisasm of ${image}: ${output.slice(0, 2000)}`);
    const codes = instructions(stdout);
    for (const [kernel, used] of resources(readFileSync(log, 'utf8'))) {
      const counted = codes.get(kernel);
      if (!counted) throw new SetupError(`${image}: no machine code of ${kernel}`);
      rows.push({ file, kernel, target, ...used, ...counted });
    }
  }
  return rows;
}

/** @returns {Promise<import('./report.mjs').Declaration[]>} */
async function declarations() {
  const args = ['run', '--quiet', '--release', '-p', 'ctkvr-cuda', '--bin', 'kernel-declarations'];
  const { code, stdout, output } = await run({ command: join(root, 'scripts/cargo'), args });
  if (code !== 0) throw new SetupError(`the kernels' declarations cannot be read:\n${output}`);
  return JSON.parse(stdout);
}

/** The newest folder of results, or null. */
function newest() {
  return (
    readdirSync(resultsDir)
      .filter((name) => /^\d{4}-\d\d-\d\d-kernels$/.test(name))
      .sort()
      .at(-1) ?? null
  );
}

/** @param {import('./report.mjs').Row[]} rows */
function write(rows) {
  const folder = join(resultsDir, `${new Date().toISOString().slice(0, 10)}-kernels`);
  mkdirSync(folder, { recursive: true });
  // A row a line: a change of one kernel is a change of its lines.
  writeFileSync(join(folder, 'kernels.json'), `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(',\n')}\n]\n`);
  writeFileSync(
    join(folder, 'table.md'),
    `# Kernels as compiled\n\nWritten by \`node scripts/kernels/main.mjs\`: NVRTC 12.8.93, ranges over sm_80, 86, 89, 90, 100 and 120.\n\n${table(rows)}`,
  );
  say(`wrote ${folder}`);
}

await runMain(async () => {
  const args = process.argv.slice(2);
  const onlyAt = args.indexOf('--only');
  const only = onlyAt < 0 ? [] : (args[onlyAt + 1] ?? '').split(',');
  await provideCudaTools();
  const compiled = await compileKernels(only);
  const rows = await rowsOf(compiled);
  const sizes = new Map(
    compiled
      .filter((one) => one.target.startsWith('compute_'))
      .flatMap(({ image }) => [...parameters(readFileSync(image, 'utf8'))]),
  );
  const declared = (await declarations()).filter(({ file }) => only.length === 0 || only.includes(file));
  const wrong = faults(rows, declared, sizes);
  if (args.includes('--check')) {
    const name = newest();
    if (!name) throw new SetupError('no table of kernels under docs/results: node scripts/kernels/main.mjs writes one');
    wrong.push(...differences(JSON.parse(readFileSync(join(resultsDir, name, 'kernels.json'), 'utf8')), rows));
  } else if (only.length > 0) process.stdout.write(table(rows));
  else write(rows);
  if (wrong.length > 0)
    throw new SetupError(`kernels are not as they should be:\n${wrong.map((line) => `  ${line}`).join('\n')}`);
  say(
    `${new Set(rows.map((row) => row.kernel)).size} kernels, ${rows.length} images of machine code: as they should be`,
  );
});
