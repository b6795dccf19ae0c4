// `npm test`, `npm run check` and the verbs test:miri, test:model, test:server, test:gpu: runs every check of the verb, also after one
// has failed, prints one table and ends with "N passed, N failed". Names after the verb choose among its checks.
import { seconds } from '../lib/exec.mjs';
import { runMain, SetupError, say } from '../lib/messages.mjs';
import { checks } from './checks.mjs';
import { instructionSets } from './instruction-sets.mjs';
import { closingLine, countsText, summaryTable, total } from './summary.mjs';

const HEARTBEAT_MS = 60_000;
const SHOWN_LINES = 120;
const staticChecks = [
  ...['build', 'biome', 'types', 'script-types', 'publint', 'attw', 'docs'],
  ...['workflows', 'cargo-fmt', 'clippy'],
];

/** @type {Record<string, string[]>} */
const verbs = {
  check: staticChecks,
  test: [
    ...staticChecks,
    'cargo-core',
    'loom',
    'cargo-model',
    'cargo-attention',
    'cargo-cpu',
    'cargo-cuda',
    'packed',
    'vitest',
    'vitest-model',
    'end-to-end',
  ],
  'test:miri': ['miri'],
  'test:model': ['build', 'cargo-evaluation-model', 'vitest-evaluation-model'],
  'test:server': ['build', 'server-contract', 'server-load'],
  'test:gpu': [
    'build',
    'cargo-cuda',
    'cuda-node',
    'cuda-engine',
    'cuda-hybrid',
    'cuda-model',
    'cuda-ledger',
    'cuda-address',
    'cuda-thread',
    'cuda-rehearsal',
    'cuda-code',
  ],
};

await runMain(async () => {
  const [verb = '', ...chosen] = process.argv.slice(2);
  const names = verbs[verb] ?? [];
  const unknown = chosen.filter((name) => !names.includes(name));
  const wanted = new Set([...chosen, ...chosen.map((name) => checks[name]?.needs)]);
  if (unknown.length > 0)
    throw new SetupError(`${verb} has no check '${unknown.join("', '")}'; it has ${names.join(', ')}`);

  if (verb === 'test:gpu')
    say(
      'no card is used: kernels run on the CPU, behind a stand-in for the driver. A run on a card: docs/guide/devices.md',
    );
  const outcomes = [await runCheck('packages')];
  // Without node_modules no other check can say anything.
  const isPrepared = outcomes[0]?.counts.failed === 0;
  for (const name of names) {
    if (isPrepared && (chosen.length === 0 || wanted.has(name))) outcomes.push(await runCheck(name));
  }
  const counts = total(outcomes);
  const ran = await instructionSets(outcomes.map(({ name }) => name)).catch(
    (error) => `instruction sets: ${error.message}`,
  );
  process.stdout.write(`\n${summaryTable(outcomes)}\n\n${ran === null ? '' : `${ran}\n\n`}${closingLine(counts)}\n`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
});

/** @param {string} name @returns {Promise<import('./summary.mjs').Outcome>} */
async function runCheck(name) {
  const check = /** @type {import('./checks.mjs').Check} */ (checks[name]);
  const startedAt = Date.now();
  say(`${name} (${check.about}) ...`);
  // Preparation says what it does by itself.
  const isQuiet = name !== 'packages' && name !== 'build';
  const heartbeat = setInterval(() => isQuiet && say(`  ${seconds(startedAt)}`), HEARTBEAT_MS);
  const finding = await check.run().catch((error) => ({
    counts: { passed: 0, failed: 1, skipped: 0 },
    output: error instanceof Error ? error.message : String(error),
    note: 'could not be run',
  }));
  clearInterval(heartbeat);
  const { counts, output, note = '' } = finding;
  say(`  ${countsText(counts)} in ${seconds(startedAt)}${note ? `: ${note}` : ''}`);
  if (counts.failed > 0) process.stderr.write(`${output.trimEnd().split('\n').slice(-SHOWN_LINES).join('\n')}\n`);
  return { name, counts, durationMs: Date.now() - startedAt, note };
}
