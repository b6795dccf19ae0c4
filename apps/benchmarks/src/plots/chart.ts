/**
 * What all plots share: they are drawn here, as SVG, without a browser. Ink follows the reader's light or dark scheme and the ground is left
 * open, so that a plot does on paper too; colours are of middle lightness, standing out from white and from black.
 */
import { BarChart, LineChart } from 'echarts/charts';
import { GridComponent, LegendComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([BarChart, LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

export const INK = 'currentColor';
export const colours = [
  ...['#d1495b', '#2e86ab', '#3a9d5d', '#b07d2b', '#8d6cab', '#c45a9f', '#5a8f8f', '#8a8a3c', '#7a7a7a'],
];

export const DEFAULT_SIZE = { width: 760, height: 480 } as const;

/** An axis in ink. */
export const inkAxis = {
  nameLocation: 'middle' as const,
  nameTextStyle: { color: INK },
  axisLabel: { color: INK },
  axisLine: { show: true, lineStyle: { color: INK } },
  splitLine: { lineStyle: { color: INK, opacity: 0.15 } },
};

/** What stands around the data: a title above, a legend to the right. */
export function inkFrame(title: string) {
  return {
    animation: false,
    textStyle: { fontFamily: 'sans-serif', color: INK },
    title: { text: title, left: 'center', textStyle: { color: INK, fontSize: 15 } },
    legend: { type: 'plain' as const, orient: 'vertical' as const, right: 8, top: 40, textStyle: { color: INK } },
    grid: { left: 80, right: 210, top: 48, bottom: 60 },
  };
}

type ChartOption = Parameters<ReturnType<typeof init>['setOption']>[0];

/** Returns an SVG element without ink of its own: the page around it says what `currentColor` is. */
export function renderChart(option: ChartOption, { width, height } = DEFAULT_SIZE as Size): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption(option);
    return plain(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

/** Returns the element with its ids under another prefix: several plots of a page must not share any. */
export function withIdPrefix(svg: string, prefix: string): string {
  return svg.replace(/( id="|url\(#)[a-z]+\d*-/g, `$1${prefix}-`);
}

/** What a pointer would change is of no use on a page without scripts. Ids that count all plots ever made become the same each time. */
function plain(svg: string): string {
  return withIdPrefix(svg.replace(/<style\b[\s\S]*?<\/style>\s*/g, '').replace(/ class="[^"]*"/g, ''), 'plot');
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

const style =
  '<style>svg{color:#1b1b1b;background:none}@media (prefers-color-scheme: dark){svg{color:#e8e8e8}}</style>';

/** Returns the element as a document of its own, with its ink. */
export function standaloneSvg(svg: string): string {
  return svg.replace(/(<svg[^>]*>)/, `$1${style}`);
}

export function groupedDigits(value: number): string {
  return value.toLocaleString('en-US');
}
