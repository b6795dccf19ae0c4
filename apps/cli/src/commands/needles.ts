/** `ctkvr needles`: whether a selector finds what dense attention finds, counted over many hidden facts. */
import { type Contender, contenderNames, parseContender } from '@ctkvr/evaluation';
import { Command, Option } from 'commander';
import type { CommandContext, RunAction } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import { formatBytes, formatCount, formatTable } from '../format.js';
import { lighthousePlaces } from '../needles/lighthouse.js';
import { measureNeedles, type NeedleReport, type NeedleTrial } from '../needles/measure-needles.js';
import { openModel } from '../open-model.js';
import { integer } from '../parse-numbers.js';
import { addModelOptions, listOf, type ModelOptions } from '../parse-options.js';
import { ProgressLine, prefillState } from '../progress-line.js';
import { readDocuments } from '../read-document.js';

interface NeedlesFlags extends ModelOptions {
  readonly text: string;
  readonly tokens: number;
  readonly trials: number;
  readonly needles: number;
  readonly indexBeforeQuestion: boolean;
  readonly seed: number;
  readonly selectors: Contender[];
  readonly json: boolean;
}

export function needlesCommand(run: RunAction): Command {
  const command = new Command('needles').description(
    'Hide one number after another in a long text and count how often each selector finds those that dense attention finds',
  );
  addModelOptions(command);
  return command
    .requiredOption('--text <file>', 'UTF-8 text, or - for standard input; its beginning is used')
    .option('--tokens <count>', 'tokens of each prompt', integer(16), 7000)
    .option('--trials <count>', 'numbers asked for, each at another depth', integer(1), 20)
    .option(
      '--needles <count>',
      'numbers hidden in one prompt, each asked for on a fork of it: fewer prompts to read',
      integer(1, lighthousePlaces.length),
      1,
    )
    .option('--index-before-question', 'build the index before the question is read, once a prompt', false)
    .option('--seed <number>', 'numbers and depths are drawn from it', integer(0, 0xffff_ffff), 1)
    .addOption(
      new Option('--selectors <list>', `of ${contenderNames.join(', ')}, with settings as in fidelity`)
        .argParser(listOf(parseContender))
        .default([parseContender('ctkvr')], 'ctkvr'),
    )
    .option('--json', 'print the report as JSON', false)
    .action((flags: NeedlesFlags) => run((context) => needles(flags, context)));
}

async function needles(flags: NeedlesFlags, { io, signal }: CommandContext): Promise<void> {
  const text = await readDocuments([flags.text], { stdin: io.stdin, signal });
  const progress = new ProgressLine(io);
  await using model = await openModel(flags, { progress, signal });
  const { tokens: numTokens, trials: numTrials, needles: needlesPerPrompt, indexBeforeQuestion, seed } = flags;
  const numPrompts = Math.ceil(numTrials / needlesPerPrompt);
  const report = await measureNeedles({
    model,
    text,
    numTokens,
    numTrials,
    needlesPerPrompt,
    indexBeforeQuestion,
    seed,
    contenders: flags.selectors,
    signal,
    onPrefill: (prompt, state) => {
      const { label, ...rest } = prefillState(state);
      progress.show({ label: `prompt ${prompt + 1} of ${numPrompts}: ${label}`, ...rest });
    },
    onTrial: async (trial) => {
      progress.clear();
      if (!flags.json) await print(io, describeTrial(trial));
    },
  }).finally(() => progress.clear());
  const head = { model: flags.model, text: flags.text, tokens: numTokens, needlesPerPrompt, indexBeforeQuestion, seed };
  if (flags.json) await printJson(io, { ...head, ...report });
  else await print(io, describeReport(report));
}

function describeTrial({ place, number, factAt, tokens, dense, answers }: NeedleTrial): string {
  const outcomes = [dense, ...answers].map(({ selector, found, text }) =>
    found ? `${selector} found it` : `${selector} said ${JSON.stringify(text)}`,
  );
  return `${number}${place === null ? '' : ` of ${place}`} at token ${formatCount(factAt)} of ${formatCount(tokens)}: ${outcomes.join('; ')}\n`;
}

function describeReport({ trials, foundByDense, selectors }: NeedleReport): string {
  const rows = selectors.map((s) => [
    s.selector,
    `${s.found} of ${foundByDense}`,
    s.share === null ? '-' : `${(s.share * 100).toFixed(1)} %`,
    s.keysReadPerHead === null ? '-' : formatCount(s.keysReadPerHead),
    s.bytesReadPerToken === null ? '-' : formatBytes(s.bytesReadPerToken),
  ]);
  const title = `\nDense attention found ${foundByDense} of ${trials.length}; of these:\n`;
  return (
    title + formatTable([['selector', 'found', 'share', 'keys read per head', 'read/token'], ...rows], [1, 2, 3, 4])
  );
}
