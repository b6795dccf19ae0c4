/** `npm run bench -- study …`: all selectors in all situations, as raw figures, tables and plots. */
import { type Contender, parseContender } from '@ctkvr/evaluation';
import { loadModel } from '@ctkvr/model-runner';
import { Command, InvalidArgumentError, Option } from 'commander';
import { resolveBenchModel } from '../evaluation-models.js';
import { positiveInteger } from '../parse-options.js';
import { modelRunHead } from '../run-head.js';
import { type ContenderPreset, contenderPresets, contendersOf } from './contender-presets.js';
import { runStudy } from './run-study.js';
import { type SituationKind, situationKinds } from './situations.js';
import type { StudyResult, StudySituation } from './study-result.js';
import { readStudy, writeStudy } from './write-study.js';

interface StudyFlags {
  readonly model: string;
  readonly texts: readonly SituationKind[];
  readonly tokens: number;
  readonly steps: number;
  readonly preset: ContenderPreset;
  readonly contenders?: readonly Contender[];
  readonly out: string;
  readonly render: boolean;
}

export function studyCommand(): Command {
  return new Command('study')
    .description('distance to dense attention against what is read, for many selectors and settings, with plots')
    .requiredOption('--out <folder>', 'where study.json, README.md and the plots go')
    .option('--model <model>', 'path, catalogue name, or owner/repo:file', 'smollm2-135m')
    .addOption(
      new Option('--texts <list>', `of ${situationKinds.join(', ')}`)
        .argParser((list) => list.split(',').map(parseKind))
        .default(situationKinds, 'all'),
    )
    .option('--tokens <count>', 'tokens of each prompt, question included', positiveInteger, 7000)
    .option('--steps <count>', 'decode steps to compare', positiveInteger, 64)
    .addOption(
      new Option('--preset <name>', 'a list of contenders by name').choices(contenderPresets).default('selectors'),
    )
    .addOption(
      new Option('--contenders <list>', 'instead: contenders as `ctkvr fidelity` takes them, comma between')
        .argParser((list) => list.split(',').map(contender))
        .conflicts('preset'),
    )
    .option('--render', 'measure nothing: make page and plots again from study.json in the folder', false)
    .action(study);
}

/** What is done is written after each situation: a run of hours that is stopped keeps it. */
async function study(flags: StudyFlags): Promise<void> {
  const { out } = flags;
  if (flags.render) {
    await writeStudy(out, await readStudy(out));
    return;
  }
  const contenders = flags.contenders ?? contendersOf(flags.preset).map(parseContender);
  const modelPath = await resolveBenchModel(flags.model);
  const head = { ...(await modelRunHead(modelPath)), tokens: flags.tokens, steps: flags.steps };
  await using model = await loadModel(modelPath);
  const situations: StudySituation[] = [];
  const done = runStudy({
    model,
    kinds: flags.texts,
    numTokens: flags.tokens,
    numSteps: flags.steps,
    contenders,
    signal: new AbortController().signal,
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
  for await (const situation of done) {
    situations.push(situation);
    const result: StudyResult = { ...head, situations };
    await writeStudy(out, result);
  }
  console.log(out);
}

function parseKind(text: string): SituationKind {
  const known = situationKinds.find((kind) => kind === text.trim());
  if (known === undefined) throw new InvalidArgumentError(`${text} is none of ${situationKinds.join(', ')}`);
  return known;
}

function contender(text: string): Contender {
  try {
    return parseContender(text.trim());
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
