/** `ctkvr fidelity`: how far each selector's next-token distributions are from dense attention, at what it reads and costs. */

import { CtkvrError, type KvFormat } from '@ctkvr/core';
import {
  type Contender,
  contenderNames,
  fitPrompt,
  measureFidelity,
  measureTurns,
  parseContender,
  withMaxSelected,
} from '@ctkvr/evaluation';
import type { PrefillProgress } from '@ctkvr/model-runner';
import { Command, Option } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import { describeFidelity, describeTurns } from '../fidelity/describe-report.js';
import { readQuestions } from '../fidelity/read-questions.js';
import { formatCounted } from '../format.js';
import { openModel } from '../open-model.js';
import { integer } from '../parse-numbers.js';
import { addModelOptions, kvFormatOption, listOf, type ModelOptions } from '../parse-options.js';
import { ProgressLine, prefillState } from '../progress-line.js';
import { readDocuments } from '../read-document.js';

interface FidelityFlags extends ModelOptions {
  readonly text: string;
  readonly tokens: number;
  readonly question: string;
  readonly indexBeforeQuestion: boolean;
  readonly turns?: string;
  readonly steps: number;
  readonly selectors: Contender[];
  readonly maxSelected?: number;
  readonly kvFormat: KvFormat;
  readonly json: boolean;
}

const DEFAULT_QUESTION = 'Summarise in detail what happens in the text above.';

export function fidelityCommand(run: RunAction): Command {
  const command = new Command('fidelity').description(
    'Compare selectors with dense attention: one prefill, a dense greedy decode (tokens that end the turn are passed over), then the same tokens forced with each selector',
  );
  addModelOptions(command);
  return command
    .requiredOption('--text <file>', 'UTF-8 text, or - for standard input; its beginning is used')
    .option('--tokens <count>', 'tokens of the whole prompt, chat template and question included', integer(16), 7000)
    .option('--question <text>', 'asked after the text', DEFAULT_QUESTION)
    .addOption(
      new Option(
        '--turns <file>',
        'JSON, [{ "question": "…" }, …]: asked one after another, answers in between',
      ).conflicts(['question', 'indexBeforeQuestion']),
    )
    .option('--index-before-question', 'build the index before the question is read', false)
    .option('--steps <count>', 'decode steps to compare (with --turns, of each answer)', integer(1), 64)
    .addOption(
      new Option(
        '--selectors <list>',
        `of ${contenderNames.join(', ')}; each may carry settings, as ctkvr:numProbes=8:listLength=2048`,
      )
        .argParser(listOf(parseContender))
        .default(contenderNames.map(parseContender), 'each once'),
    )
    .option(
      '--max-selected <count>',
      'values read per KV head and token beside sinks and window, by those that have such a budget (default: that of its preset, 1024, or 160 a query head of a small group)',
      integer(0),
    )
    .addOption(kvFormatOption().conflicts('turns'))
    .option('--json', 'print the report as JSON', false)
    .action((flags: FidelityFlags) => run((context) => fidelity(flags, context)));
}

async function fidelity(flags: FidelityFlags, { io, signal }: CommandContext): Promise<void> {
  if (flags.text === '-' && flags.turns === '-') throw twiceStandardInput();
  const source = { stdin: io.stdin, signal };
  const text = await readDocuments([flags.text], source);
  const questions = flags.turns === undefined ? [flags.question] : await readQuestions(flags.turns, source);
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  const prompt = await fitPrompt({ model, text, question: questions[0]!, numTokens: flags.tokens });
  const input = {
    model,
    prompt,
    numSteps: flags.steps,
    contenders: flags.selectors.map((contender) => withMaxSelected(contender, flags.maxSelected)),
    signal,
    onPrefill: (state: PrefillProgress) => progress.show(prefillState(state)),
    onStep: (what: string, step: number, of: number) =>
      progress.show({
        label: `decoding with ${what}`,
        fraction: step / of,
        detail: `${step} of ${formatCounted(of, 'step')}`,
      }),
  };
  const head = {
    model: flags.model,
    text: flags.text,
    tokens: prompt.tokens.length,
    steps: flags.steps,
    numThreads: model.numThreads,
  };
  if (flags.turns === undefined) {
    const { question, indexBeforeQuestion, kvFormat } = flags;
    const measure = await measureFidelity({ ...input, indexBeforeQuestion, kvFormat }).finally(() => progress.clear());
    const report = { ...head, question, indexBeforeQuestion, kvFormat, ...measure };
    await (flags.json ? printJson(io, report) : print(io, describeFidelity(report)));
  } else {
    const measure = await measureTurns({ ...input, questions }).finally(() => progress.clear());
    const report = { ...head, ...measure };
    await (flags.json ? printJson(io, report) : print(io, describeTurns(report)));
  }
}

function twiceStandardInput(): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', '--text and --turns cannot both be standard input: name a file', {
    fields: { option: 'turns' },
  });
}
