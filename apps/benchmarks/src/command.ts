/** `npm run bench -- <suite> …`: the command line of the benchmarks. */
import { Argument, Command } from 'commander';
import { batchCommand } from './commands/batch-command.js';
import { decodeCommand, prefillCommand } from './commands/bench-commands.js';
import { indexCommand } from './commands/index-command.js';
import { kernelsCommand } from './commands/kernels-command.js';
import { loadCommand } from './commands/load-command.js';
import { reportCommand } from './commands/report-command.js';
import { sameBitsCommand } from './commands/same-bits-command.js';
import { sharedCoresCommand } from './commands/shared-cores-command.js';
import { resolveBenchModel } from './evaluation-models.js';
import { type EvaluationText, evaluationTextFile, evaluationTexts } from './evaluation-texts.js';
import { studyCommand } from './study/study-command.js';

/** Returns the program, so that it can be run here or as a subcommand of another. */
export function benchCommand(): Command {
  const program = new Command('bench').description('Speed of CTkvr beside node-llama-cpp, with its quality');
  const speed = [
    decodeCommand,
    prefillCommand,
    batchCommand,
    indexCommand,
    loadCommand,
    kernelsCommand,
    sharedCoresCommand,
  ];
  for (const make of [...speed, sameBitsCommand]) program.addCommand(make());
  program
    .command('pull <model>')
    .description('fetch a model for evaluation and print where it lies')
    .option('--json', 'print { name, path }', false)
    .action(async (name: string, { json }: { json: boolean }) => {
      const file = await resolveBenchModel(name);
      console.log(json ? JSON.stringify({ name, path: file }) : file);
    });
  program.addCommand(studyCommand());
  program.addCommand(reportCommand());
  program
    .command('text')
    .description('fetch a text for evaluation and print where it lies')
    .addArgument(new Argument('<name>', 'which').choices(evaluationTexts))
    .option('--json', 'print { name, path }', false)
    .action(async (name: EvaluationText, { json }: { json: boolean }) => {
      const file = await evaluationTextFile(name);
      console.log(json ? JSON.stringify({ name, path: file }) : file);
    });
  return program;
}
