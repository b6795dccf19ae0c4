/** `same-bits`: whether an answer depends on other requests that run at the same time. */
import { Command } from 'commander';
import { resolveBenchModel } from '../evaluation-models.js';
import { positiveInteger } from '../parse-options.js';
import { modelRunHead } from '../run-head.js';
import { questions } from '../suites/questions.js';
import { sameBitsSuite } from '../suites/same-bits.js';
import { type OutputFlags, outputResult, withOutputOptions } from './output-options.js';

interface SameBitsFlags extends OutputFlags {
  readonly model: string;
  readonly questions: number;
  readonly tokens: number;
  readonly threads: readonly number[];
  readonly clients: readonly number[];
  readonly rounds: number;
}

export function sameBitsCommand(): Command {
  const command = new Command('same-bits')
    .description('greedy answers alone and with several clients, on one thread and several: how many are the same')
    .option('--model <model>', 'path, catalogue name, or owner/repo:file', 'smollm2-135m')
    .option('--questions <count>', `of ${questions.length}`, positiveInteger, questions.length)
    .option('--tokens <count>', 'the most tokens of an answer', positiveInteger, 12)
    .option('--threads <counts>', 'numbers of threads, with commas between them', counts, [1, 2])
    .option(
      '--clients <counts>',
      'questions at the same time, besides one, with commas between them',
      counts,
      [2, 4, 8],
    )
    .option('--rounds <count>', 'times that each way of asking is tried', positiveInteger, 1)
    .action(async (flags: SameBitsFlags) => {
      const modelPath = await resolveBenchModel(flags.model);
      const head = await modelRunHead(modelPath);
      const { rounds, tokens: tokensPerAnswer, threads, clients } = flags;
      const asked = questions.slice(0, flags.questions);
      const onProgress = (line: string) => process.stderr.write(`${line}\n`);
      const settings = { tokensPerAnswer, rounds };
      const rows = await sameBitsSuite({ modelPath, questions: asked, threads, clients, onProgress, ...settings });
      await outputResult({ suite: 'same-bits', ...head, numQuestions: asked.length, ...settings, rows }, flags);
    });
  return withOutputOptions(command);
}

function counts(value: string): number[] {
  return value.split(',').map(positiveInteger);
}
