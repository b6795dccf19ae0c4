/** Bars that are made of parts: where time goes. Parts that are wide enough carry their name, for readers on paper. */
import { colours, INK, inkAxis, inkFrame, renderChart } from './chart.js';

export interface StackedBar {
  readonly name: string;
  readonly parts: readonly { readonly name: string; readonly value: number }[];
}

/** Parts below this share of the longest bar have no room for a name. */
const MIN_NAMED_SHARE = 0.07;
const BAR_HEIGHT = 46;
const FRAME_HEIGHT = 150;

/** Returns an SVG element (plots/chart.ts says how its ink comes about). Parts of the same name have the same colour in all bars. */
export function stackedBars(plot: {
  readonly title: string;
  readonly axis: string;
  readonly bars: readonly StackedBar[];
}): string {
  const { bars } = plot;
  const names = [...new Set(bars.flatMap(({ parts }) => parts.map(({ name }) => name)))];
  const longest = Math.max(...bars.map(({ parts }) => parts.reduce((sum, { value }) => sum + value, 0)));
  const partValue = (bar: StackedBar, name: string) => bar.parts.find((part) => part.name === name)?.value ?? 0;
  const frame = inkFrame(plot.title);
  const option = {
    ...frame,
    grid: { ...frame.grid, left: 190 },
    xAxis: { ...inkAxis, type: 'value' as const, name: plot.axis, nameGap: 32 },
    yAxis: { ...inkAxis, type: 'category' as const, data: bars.map(({ name }) => name), inverse: true },
    series: names.map((name, index) => ({
      type: 'bar' as const,
      stack: 'all',
      name,
      barMaxWidth: 30,
      color: colours[index % colours.length]!,
      data: bars.map((bar) => ({
        value: partValue(bar, name),
        label: {
          show: partValue(bar, name) >= MIN_NAMED_SHARE * longest,
          formatter: '{a}',
          color: '#ffffff',
          textBorderColor: '#1b1b1b',
          textBorderWidth: 2,
        },
      })),
      itemStyle: { borderColor: INK, borderWidth: 0.5 },
    })),
  };
  const legendHeight = 60 + 25 * names.length;
  return renderChart(option, { width: 760, height: Math.max(legendHeight, FRAME_HEIGHT + BAR_HEIGHT * bars.length) });
}
