// `node scripts/kernels/decode-bytes.mjs`: prints what a decode step of Llama-3-8B reads and writes on a device at 98,304 tokens, kernel by kernel,
// beside what `ctkvr plan` says. Formulas: src/launch of ctkvr-cuda, which tests/ledger holds to what is counted. How many candidates there
// are and so on: the plan's counts. It needs a build (`npm run build`). `--write`: to docs/results/<date>-device-ledger/table.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../lib/exec.mjs';
import { runMain, SetupError, say } from '../lib/messages.mjs';
import { root } from '../lib/paths.mjs';

const MODEL = 'llama-3-8b';
const CONTEXT = 98_304;
/** Sizes that the plan does not know: the model's config.json. */
const SIZES = { width: 4096, inner: 14_336, vocab: 128_256 };
/** What a plan is of; its bytes do not depend on it. */
const MACHINE = {
  device: { name: 'any', memoryBytes: 1e15, gigabytesPerSecond: 1000 },
  host: { memoryBytes: 1e15, gigabytesPerSecond: 100 },
};
/** Bytes of a list's position: gaps of one byte, of which some take another (placed-memory.ts). */
const GAP_BYTES = 1.05;

/** @typedef {{ kernel: string, isAttention: boolean, stored: number, passed: number, written: number }} Line */
/** @typedef {{ readAgain: number, kernels: Line[] }} Ledger */

/** @param {any} model @param {any} reads the plan's counts of one head @param {any} search probes and clusterProbes @returns {Promise<Ledger>} */
async function ledger(model, reads, search) {
  const heads = model.numLayers * model.numKvHeads;
  const clusters = Math.floor(CONTEXT / reads.clusterSize);
  const given = {
    layers: model.numLayers,
    kvHeads: model.numKvHeads,
    group: model.numQueryHeads / model.numKvHeads,
    headDim: model.headDim,
    isQ8: 0,
    context: CONTEXT,
    retrievalHeads: Math.round(heads * reads.retrievalHeadShare),
    window: reads.window,
    candidates: reads.candidates,
    values: reads.values,
    centroids: reads.centroids,
    clusters,
    clusterSize: reads.clusterSize,
    isClusterQ8: reads.clusterFormat === 'q8' ? 1 : 0,
    // 0: retrieval heads score every key.
    retrievalClusters: reads.retrievalKeyShare === 1 ? 0 : Math.ceil(reads.retrievalKeyShare * clusters),
    listBytes: Math.round(reads.listLength * GAP_BYTES),
    probes: search.numProbes,
    clusterProbes: search.clusterProbes,
    ...SIZES,
  };
  const args = Object.entries(given).map(([name, value]) => `${name}=${value}`);
  const { code, stdout, output } = await run({
    command: join(root, 'scripts/cargo'),
    args: ['run', '--quiet', '--release', '-p', 'ctkvr-cuda', '--bin', 'decode-bytes', '--', ...args],
  });
  if (code !== 0) throw new SetupError(`decode-bytes failed:\n${output}`);
  return JSON.parse(stdout);
}

const mega = (/** @type {number} */ bytes) => (bytes / 1e6).toFixed(1);
const percent = (/** @type {number} */ part, /** @type {number} */ all) => `${((100 * part) / all).toFixed(2)} %`;
const sum = (/** @type {Line[]} */ lines, /** @type {(line: Line) => number} */ of) =>
  lines.reduce((all, line) => all + of(line), 0);

/** @param {string} title @param {Ledger} counted @param {any} planned @returns {string} */
function section(title, { readAgain, kernels }, planned) {
  const dense = planned.denseBytes;
  const row = (/** @type {Line} */ { kernel, stored, passed, written }) =>
    `| \`${kernel}\` | ${mega(stored)} | ${percent(stored, dense)} | ${mega(passed)} | ${mega(written)} |`;
  const attention = kernels.filter((line) => line.isAttention);
  const others = kernels.filter((line) => !line.isAttention);
  const [stored, passed, written] = [
    sum(attention, (line) => line.stored),
    sum(attention, (line) => line.passed),
    sum(attention, (line) => line.written),
  ];
  const once = stored - readAgain;
  /** @type {number} */
  const plan = Object.values(planned.bytes).reduce((all, bytes) => all + bytes, 0);
  return `## ${title}

| kernel | stored, MB | of dense | passed, MB | written, MB |
|---|---|---|---|---|
${attention.map(row).join('\n')}
| **attention and retrieval** | **${mega(stored)}** | **${percent(stored, dense)}** | **${mega(passed)}** | **${mega(written)}** |
${others.map((line) => row(line).replace(/\| [\d.]+ % \|/, '| |')).join('\n')}

| attention and retrieval | MB | of dense |
|---|---|---|
| dense: every key and value | ${mega(dense)} | 100 % |
| stored, each byte once a launch | ${mega(stored)} | ${percent(stored, dense)} |
| of it read again in the same layer | ${mega(readAgain)} | ${percent(readAgain, dense)} |
| stored, each byte once a layer | ${mega(once)} | ${percent(once, dense)} |
| as \`ctkvr plan\` has it | ${mega(plan)} | ${percent(plan, dense)} |
| the ledger's beyond the plan's | ${mega(once - plan)} | ${percent(once - plan, plan)} of the plan's |
`;
}

await runMain(async () => {
  const isWritten = process.argv[2] === '--write';
  const load = (/** @type {string} */ name) => import(join(root, `packages/${name}/dist/index.js`));
  const [{ modelShapes, plan }, { resolveSelectorOptions }] = await Promise.all([load('scheduler'), load('core')]);
  const model = modelShapes[MODEL];
  const sections = [];
  const ownGroup = model.numQueryHeads / model.numKvHeads;
  const fewer = { clusterFormat: 'q8', retrievalClusterShare: 0.3 };
  const options = "`clusterFormat: 'q8'` and `retrievalClusterShare: 0.3`";
  const own = { setting: 'group', title: `The engine's defaults for groups of ${ownGroup}`, groupSize: ownGroup };
  const widest = { setting: 'widest', title: 'The widest: what large groups read, an upper bound', groupSize: 7 };
  for (const { setting, title, groupSize, selector } of [
    { ...own, selector: {} },
    { ...widest, selector: {} },
    { ...own, title: `${own.title}, with ${options}`, selector: fewer },
    { ...widest, title: `The widest, with ${options}`, selector: fewer },
  ]) {
    const { device, host } = MACHINE;
    const planned = plan({ model, context: CONTEXT, sequences: 1, reads: setting, selector, devices: [device], host });
    const counted = await ledger(model, planned.reads, resolveSelectorOptions(selector, { groupSize }));
    sections.push(section(title, counted, planned));
  }
  const text = `# Bytes of a decode step, by kernel

Written by \`node scripts/kernels/decode-bytes.mjs --write\`. ${MODEL}, one sequence of ${CONTEXT.toLocaleString('en')} tokens, keys and values and weights f16.
Formulas, not a measurement: \`npm run test:gpu -- cuda-ledger\` holds each of them to what the stand-in counts. [What the columns are](README.md).

${sections.join('\n')}`;
  if (!isWritten) {
    process.stdout.write(text);
    return;
  }
  const folder = join(root, `docs/results/${new Date().toISOString().slice(0, 10)}-device-ledger`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'table.md'), text);
  say(`written: ${join(folder, 'table.md')}`);
});
