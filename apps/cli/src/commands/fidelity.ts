/** `ctkvr fidelity`: how far each selector's next-token distributions are from dense attention, at what it reads and costs. */

import { Command, Option } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import {
  type FidelityContender,
  fidelitySelectors,
  parseContender,
  withMaxSelected,
} from '../fidelity/fidelity-selectors.js';
import { fitPrompt } from '../fidelity/fit-prompt.js';
import { type FidelityMeasure, measureFidelity } from '../fidelity/measure-fidelity.js';
import { formatBytes, formatCount, formatDuration, formatTable } from '../format.js';
import { openModel } from '../open-model.js';
import { addModelOptions, integer, listOf, type ModelOptions } from '../parse-options.js';
import { ProgressLine, prefillState } from '../progress-line.js';
import { readDocuments } from '../read-document.js';

interface FidelityFlags extends ModelOptions {
  readonly text: string;
  readonly tokens: number;
  readonly question: string;
  readonly indexBeforeQuestion: boolean;
  readonly steps: number;
  readonly selectors: FidelityContender[];
  readonly maxSelected?: number;
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
    .option('--index-before-question', 'build the index before the question is read', false)
    .option('--steps <count>', 'decode steps to compare', integer(1), 64)
    .addOption(
      new Option(
        '--selectors <list>',
        `of ${fidelitySelectors.join(', ')}; each may carry settings, as ctkvr:numProbes=8:listLength=2048`,
      )
        .argParser(listOf(parseContender))
        .default(fidelitySelectors.map(parseContender), 'each once'),
    )
    .option(
      '--max-selected <count>',
      'values read per KV head and token by exactTopK and ctkvr (default: 512, ctkvr-paper 1024)',
      integer(0),
    )
    .option('--json', 'print the report as JSON', false)
    .action((flags: FidelityFlags) => run((context) => fidelity(flags, context)));
}

async function fidelity(flags: FidelityFlags, { io, signal }: CommandContext): Promise<void> {
  const text = await readDocuments([flags.text], { stdin: io.stdin, signal });
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  const prompt = await fitPrompt({ model, text, question: flags.question, numTokens: flags.tokens });
  const measure = await measureFidelity({
    model,
    prompt,
    numSteps: flags.steps,
    contenders: flags.selectors.map((contender) => withMaxSelected(contender, flags.maxSelected)),
    indexBeforeQuestion: flags.indexBeforeQuestion,
    signal,
    onPrefill: (state) => progress.show(prefillState(state)),
    onStep: (what, step, of) =>
      progress.show({ label: `decoding with ${what}`, fraction: step / of, detail: `${step} of ${of} steps` }),
  }).finally(() => progress.clear());
  const report = {
    model: flags.model,
    text: flags.text,
    tokens: prompt.tokens.length,
    steps: flags.steps,
    question: flags.question,
    indexBeforeQuestion: flags.indexBeforeQuestion,
    numThreads: model.numThreads,
    ...measure,
  };
  if (flags.json) await printJson(io, report);
  else await print(io, describe(report));
}

function describe(report: FidelityMeasure & { model: string; text: string; tokens: number; steps: number }): string {
  const head = [
    'selector',
    'mean KL',
    'max KL',
    'top-1',
    'candidates',
    'selected',
    'read/token',
    'mass',
    'mass error',
    'ms/token',
    'linear',
    'retrieval',
    'attention',
    'index',
  ];
  const rows = report.selectors.map((s) => [
    s.selector,
    s.meanKl.toPrecision(3),
    s.maxKl.toPrecision(3),
    `${(s.top1Agreement * 100).toFixed(1)} %`,
    formatCount(s.candidatesPerHead),
    formatCount(s.selectedPerHead),
    formatBytes(s.bytesReadPerToken),
    s.attentionMass.toFixed(4),
    s.massError.toFixed(4),
    s.msPerToken.toFixed(2),
    s.linearMs.toFixed(2),
    s.retrievalMs.toFixed(2),
    s.attentionMs.toFixed(2),
    s.indexBuildMs === 0 ? '-' : `${formatBytes(s.indexBytes)}, ${formatDuration(s.indexBuildMs)}`,
  ]);
  const title = `${report.model}, ${report.text}: ${formatCount(report.tokens)} tokens read in ${formatDuration(report.prefillMs)}, ${report.steps} steps\n`;
  return title + formatTable([head, ...rows], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}
