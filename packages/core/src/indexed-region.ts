/**
 * Which positions an index covers: what lies between the sink tokens and the recent window. The three parts never overlap and
 * together are the whole sequence, also when it is shorter than sinks and window.
 */

/** Sinks are [0, start), the indexed region is [start, end), the recent window is [end, numTokens). */
export interface IndexedRegion {
  readonly start: number;
  readonly end: number;
}

/**
 * Returns the region of a sequence of `numTokens` positions: start = min(numSinkTokens, numTokens),
 * end = max(start, numTokens - recentWindow).
 */
export function indexedRegion(
  numTokens: number,
  { numSinkTokens, recentWindow }: { readonly numSinkTokens: number; readonly recentWindow: number },
): IndexedRegion {
  const start = Math.min(numSinkTokens, numTokens);
  return { start, end: Math.max(start, numTokens - recentWindow) };
}
