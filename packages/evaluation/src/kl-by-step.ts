/** How the error of a long generation develops: the KL of its first and last steps, and a curve short enough for a page. */
import { significant } from './significant.js';

/** Steps at either end that are compared. */
const END_STEPS = 200;
const MAX_POINTS = 100;

export interface KlByStep {
  /** Steps that `first` and `last` are means of: 200, or half of all. */
  readonly endSteps: number;
  /** Mean KL of the first and of the last steps, nats. */
  readonly first: number;
  readonly last: number;
  /** At most 100 means over neighbouring steps, which cover all of them. */
  readonly series: readonly {
    /** The first step of those, from 0. */
    readonly step: number;
    readonly meanKl: number;
  }[];
}

/** @param kls KL of each step, nats; at least one. */
export function klByStep(kls: ArrayLike<number>): KlByStep {
  const endSteps = Math.min(END_STEPS, Math.ceil(kls.length / 2));
  const numPoints = Math.min(MAX_POINTS, kls.length);
  const series = Array.from({ length: numPoints }, (_, point) => {
    const step = Math.floor((point * kls.length) / numPoints);
    return { step, meanKl: mean(kls, step, Math.floor(((point + 1) * kls.length) / numPoints)) };
  });
  return {
    endSteps,
    first: mean(kls, 0, endSteps),
    last: mean(kls, kls.length - endSteps, kls.length),
    series,
  };
}

function mean(values: ArrayLike<number>, start: number, end: number): number {
  let sum = 0;
  for (let i = start; i < end; i++) sum += values[i]!;
  return significant(sum / (end - start));
}
