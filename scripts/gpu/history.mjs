// `node scripts/gpu/history.mjs HISTORY.jsonl REPORT.json [--last 5] [--threshold 0.1]`: adds a run's times to the history, a line a run, and fails where one
// is slower than the median of the last runs on the same card by more than the threshold. A run with a wrong answer, and a rehearsal, are refused.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runMain, SetupError } from '../lib/messages.mjs';

/**
 * @typedef {object} Entry one run
 * @property {string} card
 * @property {string} begun
 * @property {string} bundle
 * @property {Record<string, number>} times by name: less is better
 */

/** @typedef {{ name: string, before: number, now: number }} Slower */

/** The times of a report. @param {any} report @returns {Entry} @throws {SetupError} when they do not count */
export function entryOf(report) {
  const [run] = report.run;
  if (run?.rehearsal !== 'no') throw new SetupError('the report is a rehearsal: it has no times of a card');
  const card = report.steps.facts.find((/** @type {any} */ row) => row.device)?.device;
  if (!card) throw new SetupError('the report names no card');
  if (!report.tests.kernels.allRight)
    throw new SetupError('the report has kernels that are not right: their times count for nothing');
  /** @type {Record<string, number>} */
  const times = {};
  const add = (/** @type {string} */ name, /** @type {unknown} */ time) => {
    if (typeof time === 'number' && time > 0) times[name] = time;
  };
  for (const row of report.steps.decode) {
    add(`decode ${row.sequences} ${row.reads}: step, ms`, row.step_ms);
    add(`decode ${row.sequences} ${row.reads}: attention, ms`, row.attention_ms);
  }
  for (const row of report.steps.kernels) add(`kernel ${row.sequences} ${row.kernel}, us`, row.us);
  for (const row of report.steps.prefill) add(`prefill in pieces of ${row.piece}, ms`, row.ms);
  // The second build of a device: it has its memory.
  for (const row of report.steps.index)
    if (row.on === 'device') times['index on the device, ms a head'] = row.ms_of_a_head;
  return { card, begun: run.begun, bundle: run.bundle, times };
}

/** What is slower than it was. @param {Entry[]} history @param {Entry} entry @param {{ last: number, threshold: number }} options @returns {Slower[]} */
export function regressions(history, entry, { last, threshold }) {
  const runs = history.filter(({ card }) => card === entry.card).slice(-last);
  return Object.entries(entry.times).flatMap(([name, now]) => {
    const seen = runs.flatMap(({ times }) => times[name] ?? []);
    const before = median(seen);
    return before !== null && now > before * (1 + threshold) ? [{ name, before, now }] : [];
  });
}

/** @param {number[]} values */
function median(values) {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = [sorted[middle - 1 + (sorted.length % 2)] ?? 0, sorted[middle] ?? 0];
  return (low + high) / 2;
}

/** @param {string} text @returns {Entry[]} */
export function parseHistory(text) {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}

/** @param {string[]} args */
function optionsOf(args) {
  const options = { last: 5, threshold: 0.1 };
  const rest = [...args];
  for (const name of /** @type {const} */ (['last', 'threshold'])) {
    const at = rest.indexOf(`--${name}`);
    if (at < 0) continue;
    const [, text = ''] = rest.splice(at, 2);
    options[name] = Number(text);
    if (!(options[name] > 0)) throw new SetupError(`--${name}: a number above 0, not '${text}'`);
  }
  const [historyFile, reportFile, ...others] = rest;
  if (!historyFile || !reportFile || others.length > 0)
    throw new SetupError('node scripts/gpu/history.mjs HISTORY.jsonl REPORT.json [--last 5] [--threshold 0.1]');
  return { ...options, historyFile, reportFile };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await runMain(async () => {
    const { historyFile, reportFile, ...options } = optionsOf(process.argv.slice(2));
    const entry = entryOf(JSON.parse(readFileSync(reportFile, 'utf8')));
    const history = existsSync(historyFile) ? parseHistory(readFileSync(historyFile, 'utf8')) : [];
    const slower = regressions(history, entry, options);
    // Slower or not, it is what this commit does: the next ones are held against it too.
    appendFileSync(historyFile, `${JSON.stringify(entry)}\n`);
    const before = history.filter(({ card }) => card === entry.card).length;
    console.log(
      `${entry.card}: ${Object.keys(entry.times).length} times, beside ${Math.min(before, options.last)} runs`,
    );
    for (const { name, before, now } of slower)
      console.log(`slower: ${name}: ${now} where it was ${before} (${(100 * (now / before - 1)).toFixed(1)} % more)`);
    if (slower.length > 0) process.exitCode = 1;
  });
}
