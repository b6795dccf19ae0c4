/** The index and the stages of a step, as tables. */
import { type IndexResult, type StageName, stageNames } from '../suites/index-result.js';
import { figure, megabytes, percent, precisePercent } from './cells.js';
import { makeTable, type Table } from './table.js';

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
  const stage = (name: StageName) => splits.map((split) => split.stages.find((other) => other.name === name));
  return [
    makeTable(
      `the index of ${context} tokens`,
      [
        ['', ([what]) => what],
        ['', ([, value]) => value],
      ],
      facts,
    ),
    makeTable<StageName | null>(
      `a decode step after ${context} tokens, by stage`,
      [
        ['', (name) => (name === null ? 'total' : stageLabels[name])],
        ...splits.flatMap((split, index) => [
          [
            `${split.name} ms`,
            (name: StageName | null) => figure(name === null ? split.totalMs : stage(name)[index]?.ms),
          ] as const,
          [
            '% of limit',
            (name: StageName | null) => (name === null ? '-' : percent(stage(name)[index]?.shareOfLimit)),
          ] as const,
        ]),
      ],
      [...stageNames, null],
    ),
  ];
}
