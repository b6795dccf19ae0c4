/** The plots of a report, over all of its results: a line joins figures of one model, machine and contender. */
import { countOf } from '@ctkvr/core';
import { groupedDigits } from '../plots/chart.js';
import { linePlot, type PlotLine } from '../plots/line-plot.js';
import { stackedBars } from '../plots/stacked-bars.js';
import { plotKinds, situationPlot } from '../study/study-plot.js';
import type { BatchResult } from '../suites/batch-result.js';
import type { BenchRow } from '../suites/bench-row.js';
import type { IndexResult, StageSplit } from '../suites/index-result.js';
import type { BenchResult, SuiteName } from '../suites/result.js';
import type { ResultHead } from '../suites/result-head.js';
import { stageLabels } from '../tables/index-tables.js';
import { isStudy, isSuiteResult, type ReportInput } from './report-input.js';

export interface ReportPlot {
  readonly title: string;
  /** An element of plots/chart.ts. */
  readonly svg: string;
}

/** Stages that take less than this share of every bar are drawn as one. */
const MIN_STAGE_SHARE = 0.01;

export function reportPlots(inputs: readonly ReportInput[]): ReportPlot[] {
  const results = inputs.map(({ result }) => result);
  const suites = results.filter(isSuiteResult);
  const benches = suites.filter((result): result is BenchResult => isBench(result.suite));
  const decodes = benches.filter(({ suite }) => suite === 'decode');
  const prefills = benches.filter(({ suite }) => suite === 'prefill');
  const batches = suites.filter((result) => result.suite === 'batch');
  const indexes = suites.filter((result) => result.suite === 'index');
  return [
    ...grouped(decodes, place).map(([, group]) => timePlot('Time a token', 'ms a token', group)),
    ...grouped(prefills, place).map(([, group]) => timePlot('Time to the first token', 'ms', group)),
    ...grouped(batches, (batch) => `${place(batch)}, ${batch.context} tokens`).map(([, group]) =>
      throughputPlot(group, decodes),
    ),
    ...grouped(indexes, place).map(([, group]) => stagePlot(group)),
    ...results.filter(isStudy).flatMap((study) =>
      study.situations.map((situation) => {
        const [keys] = plotKinds;
        return { title: `${keys!.title}: ${situation.name}, ${place(study)}`, svg: situationPlot(situation, keys!) };
      }),
    ),
  ];
}

const isBench = (suite: SuiteName): suite is BenchResult['suite'] => suite === 'decode' || suite === 'prefill';

/** Only figures of one place may share a line. */
function place({ model, machine }: ResultHead): string {
  return `${model.name}, ${machine.cpu}, ${countOf(machine.usableThreads, 'thread')}, ${machine.isa}`;
}

function timePlot(what: string, unit: string, results: readonly BenchResult[]): ReportPlot {
  const title = `${what}: ${place(results[0]!)}`;
  const lines = linesOf(results, ({ context, rows }) => [context, rows, (row) => row.medianMs, Math.min]);
  return { title, svg: contextPlot(what, { name: 'tokens before it', format: groupedDigits }, unit, lines) };
}

/** A decode of one sequence at the same length is a batch of one. */
function throughputPlot(batches: readonly BatchResult[], decodes: readonly BenchResult[]): ReportPlot {
  const [first] = batches;
  const alone = decodes.filter((decode) => decode.context === first!.context && place(decode) === place(first!));
  const what = `Throughput after ${groupedDigits(first!.context)} tokens`;
  const lines = linesOf([...alone, ...batches], (result) => [
    'sequences' in result ? result.sequences : 1,
    result.rows,
    (row) => row.tokensPerSecond,
    Math.max,
  ]);
  const svg = contextPlot(what, { name: 'sequences', format: String }, 'tokens a second, all sequences', lines);
  return { title: `${what}: ${place(first!)}`, svg };
}

function contextPlot(
  title: string,
  x: { readonly name: string; readonly format: (value: number) => string },
  y: string,
  lines: readonly PlotLine[],
): string {
  return linePlot({
    title,
    x: { ...x, type: 'log', logBase: 2, fits: true },
    y: { name: y, type: 'value', format: groupedDigits },
    lines,
  });
}

/** x, rows, the y of a row, and which row counts where several have one name (the peer's with and without flash attention). */
type Reading = readonly [x: number, rows: readonly BenchRow[], y: (row: BenchRow) => number, best: typeof Math.min];

/** A line for each contender, and for each commit where there are several. A later result replaces an earlier one of the same x. */
function linesOf<Result extends ResultHead>(results: readonly Result[], read: (result: Result) => Reading): PlotLine[] {
  const severalCommits = new Set(results.map(({ commit }) => commit)).size > 1;
  const lines = new Map<string, Map<number, number>>();
  for (const result of [...results].sort((a, b) => (a.date < b.date ? -1 : 1))) {
    const [x, rows, y, best] = read(result);
    for (const [name, ofName] of grouped(rows, (row) => row.name)) {
      const line = severalCommits ? `${name} (${result.commit ?? 'no commit'})` : name;
      const points = lines.get(line) ?? new Map<number, number>();
      lines.set(line, points.set(x, best(...ofName.map(y))));
    }
  }
  return [...lines].map(([name, points]) => ({ name, points: [...points] }));
}

function stagePlot(results: readonly IndexResult[]): ReportPlot {
  const inOrder = [...results].sort((a, b) => a.context - b.context);
  const bars = inOrder.flatMap(({ context, splits }) =>
    splits.map((split) => ({ name: `${split.name}, ${groupedDigits(context)} tokens`, split })),
  );
  const shown = new Set(bars.flatMap(({ split }) => largeStages(split)));
  const title = 'Time of a decode step by stage';
  const svg = stackedBars({
    title,
    axis: 'ms a token',
    bars: bars.map(({ name, split }) => ({
      name,
      parts: [
        ...split.stages.filter((stage) => shown.has(stage.name)).map((stage) => ({ ...stage, value: stage.ms })),
        { name: 'others' as const, value: sumOf(split.stages.filter((stage) => !shown.has(stage.name))) },
      ].map(({ name: stage, value }) => ({ name: stage === 'others' ? stage : stageLabels[stage], value })),
    })),
  });
  return { title: `${title}: ${place(results[0]!)}`, svg };
}

function largeStages({ stages, totalMs }: StageSplit) {
  return stages.filter(({ ms }) => ms >= MIN_STAGE_SHARE * totalMs).map(({ name }) => name);
}

function sumOf(stages: StageSplit['stages']): number {
  return stages.reduce((sum, { ms }) => sum + ms, 0);
}

/** Items by key, in order of the first of each. */
function grouped<T>(items: readonly T[], keyOf: (item: T) => string): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return [...groups];
}
