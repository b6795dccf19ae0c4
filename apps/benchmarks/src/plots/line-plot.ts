/** Lines over two axes. They differ in mark and dash as well as in colour, so that they can be told apart on paper. */
import { colours, INK, inkAxis, inkFrame, renderChart } from './chart.js';

export interface PlotAxis {
  readonly name: string;
  readonly type: 'log' | 'value';
  readonly logBase?: number;
  readonly format: (value: number) => string;
  /** For x: whether it begins and ends at the powers of two around the points. Default: where echarts finds it nice. */
  readonly fits?: boolean;
}

export interface PlotLine {
  readonly name: string;
  /** x and y; in any order, both above 0 on logarithmic axes. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

const marks = ['circle', 'rect', 'triangle', 'diamond', 'pin', 'arrow'];
const dashes = ['solid', 'dashed', 'dotted'] as const;

/** Returns an SVG element (plots/chart.ts says how its ink comes about). */
export function linePlot(plot: {
  readonly title: string;
  readonly x: PlotAxis;
  readonly y: PlotAxis;
  readonly lines: readonly PlotLine[];
}): string {
  const axis = ({ name, type, logBase, format, fits }: PlotAxis, nameGap: number) => ({
    ...inkAxis,
    type,
    name,
    nameGap,
    ...(logBase === undefined ? {} : { logBase }),
    ...(fits ? powersOfTwoAround(plot.lines.flatMap(({ points }) => points.map(([x]) => x))) : {}),
    axisLabel: { color: INK, formatter: format },
  });
  return renderChart({
    ...inkFrame(plot.title),
    xAxis: axis(plot.x, 32),
    yAxis: axis(plot.y, 56),
    series: plot.lines.map(({ name, points }, index) => ({
      type: 'line' as const,
      name,
      data: points.map(([x, y]) => [x, y]).sort(([a], [b]) => a! - b!),
      symbol: marks[index % marks.length]!,
      symbolSize: 9,
      color: colours[index % colours.length]!,
      lineStyle: { width: 2, type: dashes[Math.floor(index / marks.length) % dashes.length]! },
    })),
  });
}

/** The nearest powers of two that differ and have all of the values between them. */
function powersOfTwoAround(values: readonly number[]): { min: number; max: number } {
  const min = 2 ** Math.floor(Math.log2(Math.min(...values)));
  const max = 2 ** Math.ceil(Math.log2(Math.max(...values)));
  return min === max ? { min: min / 2, max: 2 * max } : { min, max };
}
