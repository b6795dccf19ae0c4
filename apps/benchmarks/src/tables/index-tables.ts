/** The index and the stages of a step, as tables. */
import { significant } from '@ctkvr/evaluation';
import { type IndexResult, type StageName, type StageSplit, stageNames } from '../suites/index-result.js';
import { figure, megabytes, percent, precisePercent } from './cells.js';
import { type Column, makeTable, type Table } from './table.js';

/** Stages as people call them. */
export const stageLabels: Readonly<Record<StageName, string>> = {
  linear: 'linear layers',
  store: 'store keys and values',
  probe: 'probe',
  union: 'union',
  score: 'score',
  select: 'select',
  attend: 'attend',
  merge: 'merge and tail',
  wait: 'threads waiting',
  sampling: 'sampling',
  growth: 'index growth',
  between: 'between steps',
};

export function indexTables({
  context,
  build,
  growth,
  turn,
  splits,
}: Pick<IndexResult, 'context' | 'build' | 'growth' | 'turn' | 'splits'>): Table[] {
  const facts: readonly (readonly [string, string])[] = [
    ['prefill, ms', figure(build.prefillMs)],
    ['build, ms', figure(build.buildMs.median)],
    ['build, p10 and p90', `${build.buildMs.p10}, ${build.buildMs.p90}`],
    ['build, share of the prefill', precisePercent(build.shareOfPrefill)],
    ['index, MB', megabytes(build.indexBytes)],
    ['index, share of keys and values', precisePercent(build.indexBytes / build.kvBytes)],
    [`growth over ${growth.tokens} generated tokens, ms a token`, figure(growth.msPerToken)],
    ['growth, share of the steps', precisePercent(growth.shareOfSteps)],
    ['growth, most in one step, ms', figure(growth.maxMs)],
    ['growth, MB before and after', `${megabytes(growth.bytesBefore)}, ${megabytes(growth.bytesAfter)}`],
    [`a turn of ${turn.tokens} tokens, prefill ms`, figure(turn.prefillMs)],
    ['its queries made centroids, ms', figure(turn.extendMs)],
  ];
  const columns = splits.flatMap((split): Column<StageLine>[] => [
    [`${split.name} ms`, (line) => figure(line.ms(split))],
    ['% of limit', (line) => percent(line.share(split))],
  ]);
  return [
    makeTable(
      `the index of ${context} tokens`,
      [
        ['', ([what]) => what],
        ['', ([, value]) => value],
      ],
      facts,
    ),
    makeTable<StageLine>(
      `a decode step after ${context} tokens, by stage`,
      [['', ({ label }) => label], ...columns],
      stageLines,
    ),
  ];
}

interface StageLine {
  readonly label: string;
  readonly ms: (split: StageSplit) => number;
  readonly share: (split: StageSplit) => number | null;
}

const stageOf = (split: StageSplit, name: StageName) => split.stages.find((stage) => stage.name === name);

/** Everything that depends on how keys are chosen and read. */
const attentionStages = stageNames.slice(stageNames.indexOf('store'), stageNames.indexOf('wait') + 1);

const stageLines: readonly StageLine[] = [
  ...stageNames.map((name) => ({
    label: stageLabels[name],
    ms: (split: StageSplit) => stageOf(split, name)?.ms ?? 0,
    share: (split: StageSplit) => stageOf(split, name)?.shareOfLimit ?? null,
  })),
  {
    label: 'retrieval and attention (store to waiting)',
    ms: (split) => significant(attentionStages.reduce((sum, name) => sum + (stageOf(split, name)?.ms ?? 0), 0)),
    share: () => null,
  },
  { label: 'total', ms: ({ totalMs }) => totalMs, share: () => null },
];
