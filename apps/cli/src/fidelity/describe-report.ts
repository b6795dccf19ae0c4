/** A fidelity report as tables for people. */
import type { FidelityMeasure, StepsMeasure, TurnsMeasure } from '@ctkvr/evaluation';
import { formatBytes, formatCount, formatCounted, formatDuration, formatTable } from '../format.js';

/** From this many steps on, the two ends of the generation are told apart. */
const MIN_STEPS_FOR_ENDS = 128;

export interface ReportHead {
  readonly model: string;
  readonly text: string;
  readonly tokens: number;
  readonly steps: number;
}

export function describeFidelity(report: FidelityMeasure & ReportHead): string {
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
  const title = `${report.model}, ${report.text}: ${formatCounted(report.tokens, 'token')} read in ${formatDuration(report.prefillMs)}, ${formatCounted(report.steps, 'step')}\n`;
  const ends = report.steps < MIN_STEPS_FOR_ENDS ? '' : `\n${describeEnds(report.selectors)}`;
  return title + formatTable([head, ...rows], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) + ends;
}

function describeEnds(selectors: readonly ({ readonly selector: string } & StepsMeasure)[]): string {
  const { endSteps } = selectors[0]!.klByStep;
  const head = [
    'selector',
    `KL, first ${endSteps}`,
    `last ${endSteps}`,
    'ratio',
    'dense steps',
    'repairs',
    'index updates',
  ];
  const rows = selectors.map(({ selector, klByStep: { first, last }, ...s }) => [
    selector,
    first.toPrecision(3),
    last.toPrecision(3),
    ratio(last, first),
    `${(s.denseStepShare * 100).toFixed(1)} %`,
    `${(s.denseRepairShare * 100).toFixed(1)} %`,
    s.indexUpdates === 0 ? '-' : `${s.indexUpdates}, ${formatDuration(s.indexUpdateMs)}`,
  ]);
  return formatTable([head, ...rows], [1, 2, 3, 4, 5, 6]);
}

export function describeTurns(report: TurnsMeasure & ReportHead): string {
  const head = ['turn', 'selector', 'mean KL', 'index built anew', 'ratio', 'top-1', 'read/token', 'question'];
  const rows = report.turns.flatMap(({ selectors }, turn) =>
    selectors.map(({ selector, inTurn, atEnd }) => [
      String(turn + 1),
      selector,
      inTurn.meanKl.toPrecision(3),
      atEnd.meanKl.toPrecision(3),
      ratio(inTurn.meanKl, atEnd.meanKl),
      `${(inTurn.top1Agreement * 100).toFixed(1)} %`,
      formatBytes(inTurn.bytesReadPerToken),
      formatDuration(inTurn.questionMs),
    ]),
  );
  const title = `${report.model}, ${report.text}: ${formatCounted(report.tokens, 'token')} read in ${formatDuration(report.prefillMs)}, ${formatCounted(report.turns.length, 'turn')} of ${formatCounted(report.steps, 'step')}\n`;
  return title + formatTable([head, ...rows], [0, 2, 3, 4, 5, 6, 7]);
}

function ratio(a: number, b: number): string {
  return b === 0 ? '-' : (a / b).toFixed(2);
}
