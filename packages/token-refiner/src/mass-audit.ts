/** How far estimates of the attention mass are from what was measured, gathered over heads and steps. */
import { CtkvrError } from '@ctkvr/core';

/**
 * Four numbers and nothing else, so that `JSON.stringify` and `structuredClone` keep all of it. Shares are 0..1; 0 before the first.
 */
export class MassAudit {
  /** Pairs added. */
  count = 0;
  /** Mean of |estimated - measured|. */
  meanAbsoluteError = 0;
  /** Mean of estimated - measured: above 0, the estimates promise too much. */
  bias = 0;
  /** Largest |estimated - measured|. */
  worst = 0;

  /** Adds one head's pair. @throws {CtkvrError} CTKVR_NON_FINITE, before anything changed. */
  add(estimated: number, measured: number): void {
    const error = estimated - measured;
    if (!Number.isFinite(error)) {
      throw new CtkvrError('CTKVR_NON_FINITE', `MassAudit.add: shares must be finite, got ${estimated}, ${measured}`, {
        fields: { op: 'MassAudit.add', argument: Number.isFinite(estimated) ? 'measured' : 'estimated' },
      });
    }
    this.count += 1;
    this.meanAbsoluteError += (Math.abs(error) - this.meanAbsoluteError) / this.count;
    this.bias += (error - this.bias) / this.count;
    this.worst = Math.max(this.worst, Math.abs(error));
  }
}
