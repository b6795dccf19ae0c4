/** Writes a report to a file; its folder is made. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ReportInput } from './report-input.js';
import { reportPage } from './report-page.js';

export async function writeReport(file: string, inputs: readonly ReportInput[]): Promise<void> {
  await mkdir(path.dirname(path.resolve(file)), { recursive: true });
  await writeFile(file, reportPage(inputs));
}
