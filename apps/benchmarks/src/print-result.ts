/** A result as tables for people. */
import type { SuiteResult } from './suites/result.js';
import { describeMachineShortly, describeRun } from './tables/describe-result.js';
import { resultTables } from './tables/result-tables.js';
import { textTable } from './tables/table.js';

export function formatResult(result: SuiteResult): string {
  const tables = resultTables(result).map((table) => `\n${table.title}\n\n${textTable(table)}`);
  return [describeRun(result), describeMachineShortly(result.machine), ...tables].join('\n');
}
