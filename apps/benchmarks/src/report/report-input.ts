/** What a report is made of: results of suites and of studies, from files that earlier runs wrote. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import type { StudyResult } from '../study/study-result.js';
import type { SuiteName, SuiteResult } from '../suites/result.js';

export interface ReportInput {
  /** Where it comes from, for people: a file's name. */
  readonly source: string;
  readonly result: SuiteResult | StudyResult;
}

const suiteNames: Readonly<Record<SuiteName, true>> = {
  decode: true,
  prefill: true,
  batch: true,
  index: true,
  load: true,
  kernels: true,
  'same-bits': true,
  'shared-cores': true,
};

export function isStudy(result: SuiteResult | StudyResult): result is StudyResult {
  return !isSuiteResult(result);
}

export function isSuiteResult(result: SuiteResult | StudyResult): result is SuiteResult {
  return 'suite' in result;
}

/**
 * Reads what `--json` printed, or the `study.json` of a study.
 * @throws {CtkvrError} CTKVR_FILE_NOT_FOUND; CTKVR_FILE_UNREADABLE when it is not JSON, or JSON of something else.
 */
export async function readReportInput(file: string): Promise<ReportInput> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `${file} cannot be read: name results that --json printed`, {
      cause,
      fields: { path: file },
    });
  });
  const result = parsed(text, file);
  if (!isResult(result)) {
    throw new CtkvrError(
      'CTKVR_FILE_UNREADABLE',
      `${file} is no result of a suite (${Object.keys(suiteNames).join(', ')}) and no study.json`,
      { fields: { path: file } },
    );
  }
  return { source: path.basename(file), result };
}

function parsed(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${file} is not JSON`, { cause, fields: { path: file } });
  }
}

function isResult(value: unknown): value is SuiteResult | StudyResult {
  if (typeof value !== 'object' || value === null) return false;
  const { suite, machine, situations } = value as Partial<Record<string, unknown>>;
  if (typeof machine !== 'object' || machine === null) return false;
  return suite === undefined ? Array.isArray(situations) : Object.hasOwn(suiteNames, String(suite));
}
