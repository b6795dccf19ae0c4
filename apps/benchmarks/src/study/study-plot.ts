/**
 * Plots of a study as SVG files that stand alone: ink follows the reader's light or dark scheme, the ground is left open, and lines differ
 * in mark and dash as well as in colour, so that they can be told apart on paper.
 */
import { LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { contenderFamilies } from './contender-family.js';
import type { StudyRow, StudySituation } from './study-result.js';

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

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

const WIDTH = 760;
const HEIGHT = 480;
/** Colours of middle lightness: they stand out from a white ground and from a black one. */
const colours = ['#d1495b', '#2e86ab', '#3a9d5d', '#b07d2b', '#8d6cab', '#c45a9f', '#5a8f8f', '#8a8a3c', '#7a7a7a'];
const marks = ['circle', 'rect', 'triangle', 'diamond', 'pin', 'arrow'];
const dashes = ['solid', 'dashed', 'dotted'] as const;
const INK = 'currentColor';
const style =
  '<style>svg{color:#1b1b1b;background:none}@media (prefers-color-scheme: dark){svg{color:#e8e8e8}}</style>';

/** Name of a plot's file, beside the page. */
export function plotFile({ name }: Pick<StudySituation, 'name'>, { id }: PlotKind): string {
  return `kl-${id}-${name.replace(/[^a-z0-9]+/g, '-')}.svg`;
}

/** Returns the SVG document. Rows without any error (those of dense attention) have no place on a logarithmic axis and are left out. */
export function plotSituation(situation: StudySituation, kind: PlotKind): string {
  const families = contenderFamilies(situation.rows.filter((row) => row.meanKl > 0 && kind.x(row) > 0));
  const axis = {
    type: 'log' as const,
    nameLocation: 'middle' as const,
    nameTextStyle: { color: INK },
    axisLabel: { color: INK },
    axisLine: { show: true, lineStyle: { color: INK } },
    splitLine: { lineStyle: { color: INK, opacity: 0.15 } },
  };
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height: HEIGHT });
  try {
    chart.setOption({
      animation: false,
      textStyle: { fontFamily: 'sans-serif', color: INK },
      title: { text: `${kind.title}: ${situation.name}`, left: 'center', textStyle: { color: INK, fontSize: 15 } },
      legend: { type: 'plain', orient: 'vertical', right: 8, top: 40, textStyle: { color: INK } },
      grid: { left: 80, right: 210, top: 48, bottom: 60 },
      xAxis: {
        ...axis,
        name: kind.axis,
        nameGap: 32,
        logBase: 2,
        axisLabel: { color: INK, formatter: count },
      },
      yAxis: {
        ...axis,
        name: 'mean KL to dense attention, nats',
        nameGap: 56,
        axisLabel: { color: INK, formatter: (value: number) => value.toExponential(0) },
      },
      series: families.map(({ name, rows }, index) => ({
        type: 'line' as const,
        name,
        data: rows.map((row) => [kind.x(row), row.meanKl]).sort(([a], [b]) => a! - b!),
        symbol: marks[index % marks.length]!,
        symbolSize: 9,
        color: colours[index % colours.length]!,
        lineStyle: { width: 2, type: dashes[Math.floor(index / marks.length) % dashes.length]! },
      })),
    });
    return chart.renderToSVGString().replace(/(<svg[^>]*>)/, `$1${style}`);
  } finally {
    chart.dispose();
  }
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}
