/** A study's files: `study.json`, the page made from it, and its plots. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import { plotFile, plotKinds, plotSituation } from './study-plot.js';
import type { StudyResult } from './study-result.js';
import { studyPage } from './study-table.js';

const JSON_FILE = 'study.json';

/** Writes (over) everything; the folder is made. */
export async function writeStudy(folder: string, result: StudyResult): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, JSON_FILE), `${JSON.stringify(result, null, 2)}\n`);
  await writeFile(join(folder, 'README.md'), studyPage(result));
  for (const situation of result.situations) {
    for (const kind of plotKinds) {
      await writeFile(join(folder, plotFile(situation, kind)), `${plotSituation(situation, kind)}\n`);
    }
  }
}

/** Reads what an earlier run has measured. @throws {CtkvrError} CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE. */
export async function readStudy(folder: string): Promise<StudyResult> {
  const path = join(folder, JSON_FILE);
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `${path} cannot be read: name the folder of an earlier study`, {
      cause,
      fields: { path },
    });
  });
  try {
    return JSON.parse(text) as StudyResult;
  } catch (cause) {
    throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} is not JSON`, { cause, fields: { path } });
  }
}
