/** Where a suite's result goes: a table or JSON on stdout, and a page. */
import type { Command } from 'commander';
import { formatResult } from '../print-result.js';
import { writeReport } from '../report/write-report.js';
import type { SuiteResult } from '../suites/result.js';

export interface OutputFlags {
  readonly json: boolean;
  readonly report?: string;
}

export function withOutputOptions(command: Command): Command {
  return command
    .option('--json', 'print the result as JSON on stdout', false)
    .option('--report <file>', 'also write it as an HTML page with plots');
}

export async function outputResult(result: SuiteResult, { json, report }: OutputFlags): Promise<void> {
  if (report !== undefined) await writeReport(report, [{ source: 'this run', result }]);
  console.log(json ? JSON.stringify(result, null, 2) : formatResult(result));
}
