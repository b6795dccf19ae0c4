/**
 * The estimate of the indexed positions that a step does not read: segments of clusters, one for each time the region grew, which together
 * cover the region. Immutable: forks share it.
 */
import type { TailSegment } from './tail-segment.js';
import { WeighedTail } from './weighed-tail.js';

export class Tail {
  /** Ascending, without gaps. */
  readonly segments: readonly TailSegment[];
  /**
   * f32 [groupSize], added to the log-sum-exp. The estimate is too low when every key scores as its cluster's mean (Jensen's inequality); the
   * build measures by how much on its own queries (volatility.ts).
   */
  readonly corrections: Float32Array;

  constructor(segments: readonly TailSegment[], corrections: Float32Array) {
    this.segments = segments;
    this.corrections = corrections;
  }

  get sizeBytes(): number {
    return this.segments.reduce((sum, { sizeBytes }) => sum + sizeBytes, this.corrections.byteLength);
  }

  /** With one more segment behind. */
  with(segment: TailSegment): Tail {
    return new Tail([...this.segments, segment], this.corrections);
  }

  corrected(corrections: Float32Array): Tail {
    return new Tail(this.segments, corrections);
  }

  /** As it was when only `length` tokens were stored. */
  truncated(length: number): Tail {
    return new Tail(
      this.segments.filter(({ madeAt }) => madeAt <= length),
      this.corrections,
    );
  }

  /**
   * Weighs all positions but `taken` for a query: numClusters groupSize headDim multiplications.
   * @param input.query f32 [groupSize, headDim]. @param input.taken ascending positions of the region.
   */
  weigh(input: { readonly query: Float32Array; readonly taken: Uint32Array }): WeighedTail {
    return new WeighedTail({ ...input, segments: this.segments, corrections: this.corrections });
  }
}
