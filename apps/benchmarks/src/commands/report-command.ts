/** `report`: a page of results that were saved. */
import { Command } from 'commander';
import { readReportInput } from '../report/report-input.js';
import { writeReport } from '../report/write-report.js';

export function reportCommand(): Command {
  return new Command('report')
    .description('one HTML page with plots and tables of saved results: what --json printed, and study.json files')
    .argument('<json...>', 'files; figures of one model and machine share their plots')
    .requiredOption('--out <file>', 'the page')
    .action(async (files: string[], { out }: { out: string }) => {
      await writeReport(out, await Promise.all(files.map(readReportInput)));
      console.log(out);
    });
}
