/**
 * How several models divide the memory: each has an equal share, or what its weights need with a little for sessions, if that is more. Sessions
 * may take what the weights leave. Models whose shares are more than all together are not loaded at the same time (model-pool.ts).
 */

/** What a process takes beside weights and sessions: Node.js, and what steps compute with. */
const PROCESS_BYTES = 256 * 2 ** 20;
/** With less than this for its sessions a model answers short questions only. */
const LEAST_SESSION_BYTES = 256 * 2 ** 20;

export interface MemoryShare {
  /** What to count for the model while it is loaded. */
  readonly neededBytes: number;
  /** Of it, what keys, values and indexes of its sessions may take. */
  readonly sessionMemoryBytes: number;
}

/** @param sessionMemoryBytes what the sessions of each may take, where it was said. */
export function memoryShares(
  weightsBytes: readonly number[],
  budgetBytes: number,
  sessionMemoryBytes?: number,
): MemoryShare[] {
  const equal = budgetBytes / weightsBytes.length;
  return weightsBytes.map((weights) => {
    const fixed = weights + PROCESS_BYTES;
    const sessions = sessionMemoryBytes ?? Math.max(Math.floor(equal - fixed), LEAST_SESSION_BYTES);
    return { neededBytes: fixed + sessions, sessionMemoryBytes: sessions };
  });
}
