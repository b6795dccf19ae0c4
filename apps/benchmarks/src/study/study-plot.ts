/** Plots of a study: the error against what is read, a line for each family of contenders. */
import { groupedDigits, standaloneSvg } from '../plots/chart.js';
import { linePlot } from '../plots/line-plot.js';
import { contenderFamilies } from './contender-family.js';
import type { StudyRow, StudySituation } from './study-result.js';

export interface PlotKind {
  readonly id: string;
  readonly title: string;
  readonly axis: string;
  readonly x: (row: StudyRow) => number;
}

export const plotKinds: readonly PlotKind[] = [
  { id: 'keys', title: 'KL against keys read', axis: 'keys read a head', x: (row) => row.keysReadPerHead },
  { id: 'values', title: 'KL against values read', axis: 'values read a head', x: (row) => row.valuesReadPerHead },
  { id: 'bytes', title: 'KL against bytes read', axis: 'MB read a token', x: (row) => row.bytesReadPerToken / 1e6 },
];

/** Name of a plot's file, beside the page. */
export function plotFile({ name }: Pick<StudySituation, 'name'>, { id }: PlotKind): string {
  return `kl-${id}-${name.replace(/[^a-z0-9]+/g, '-')}.svg`;
}

/** Returns the SVG document, which stands alone. */
export function plotSituation(situation: StudySituation, kind: PlotKind): string {
  return standaloneSvg(situationPlot(situation, kind));
}

/**
 * Returns the same as an element of a page. Rows without any error (those of dense attention) have no place on a logarithmic axis and are left
 * out.
 */
export function situationPlot(situation: StudySituation, kind: PlotKind): string {
  const families = contenderFamilies(situation.rows.filter((row) => row.meanKl > 0 && kind.x(row) > 0));
  return linePlot({
    title: `${kind.title}: ${situation.name}`,
    x: { name: kind.axis, type: 'log', logBase: 2, format: groupedDigits },
    y: { name: 'mean KL to dense attention, nats', type: 'log', format: (value) => value.toExponential(0) },
    lines: families.map(({ name, rows }) => ({ name, points: rows.map((row) => [kind.x(row), row.meanKl] as const) })),
  });
}
