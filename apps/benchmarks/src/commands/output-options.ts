/** Where a suite's result goes: a table or JSON on stdout, and a page. */
import type { Command } from 'commander';
import { formatResult } from '../print-result.js';
import type { SuiteResult } from '../suites/result.js';

export interface OutputFlags {
  readonly json: boolean;
}

export function withOutputOptions(command: Command): Command {
  return command.option('--json', 'print the result as JSON on stdout', false);
}

export async function outputResult(result: SuiteResult, { json }: OutputFlags): Promise<void> {
  console.log(json ? JSON.stringify(result, null, 2) : formatResult(result));
}
