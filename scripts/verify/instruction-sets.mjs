// Which of the engine's kernel tables the tests ran with, and which this machine cannot test.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, toolsDir } from '../lib/paths.mjs';

/** Of every architecture. */
const names = ['scalar', 'avx2', 'avx512', 'avx512vnni', 'avx512bf16', 'amx', 'neon'];

/** Passed tests that name each table, from vitest's JSON reports. @param {string[]} reports @returns {Map<string, number>} */
export function testsByTable(reports) {
  /** @type {{ assertionResults: { status: string, fullName: string }[] }[]} */
  const files = reports.flatMap((json) => JSON.parse(json).testResults);
  const passed = files.flatMap((file) => file.assertionResults.filter(({ status }) => status === 'passed'));
  return new Map(
    names.map((name) => {
      const word = new RegExp(`(^| )${name}( |$)`);
      return [name, passed.filter(({ fullName }) => word.test(fullName)).length];
    }),
  );
}

/** @param {Map<string, number>} tests @param {{ name: string, missing: readonly string[] }[]} tables of this machine's architecture */
export function instructionSetsLine(tests, tables) {
  const ran = names.filter((name) => tests.get(name));
  const rest = names.filter((name) => !ran.includes(name));
  const why = (/** @type {string} */ name) => {
    const table = tables.find((other) => other.name === name);
    if (table === undefined) return 'another architecture';
    return table.missing.length > 0 ? `lacks ${table.missing.join(', ')}` : 'there, but not run';
  };
  const without = rest.length === 0 ? '' : `; not here: ${rest.map((name) => `${name} (${why(name)})`).join(', ')}`;
  return `instruction sets with tests of their own: ${ran.map((name) => `${name} ${tests.get(name)}`).join(', ')}${without}`;
}

/** The line for the vitest checks that ran, or null where none did. @param {string[]} checks */
export async function instructionSets(checks) {
  const reports = checks.map((name) => join(toolsDir, `reports/${name}.json`)).filter((path) => existsSync(path));
  const loader = join(root, 'packages/native/dist/index.js');
  if (reports.length === 0 || !existsSync(loader)) return null;
  const { findBinding } = await import(pathToFileURL(loader).href);
  const tests = testsByTable(reports.map((path) => readFileSync(path, 'utf8')));
  return instructionSetsLine(tests, findBinding().binding.kernelTables());
}
