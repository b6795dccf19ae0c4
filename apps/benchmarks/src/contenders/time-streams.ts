/** Clocks around streams of tokens: how long several of them take together, and how regularly one of them comes beside other work. */

/**
 * Returns the milliseconds in which every stream yields `numTokens` more items, after each has yielded one: the clock starts when the
 * slowest has begun.
 */
export async function timeTogether(streams: readonly AsyncIterator<unknown>[], numTokens: number): Promise<number> {
  await Promise.all(streams.map((stream) => stream.next()));
  const startedAt = performance.now();
  await Promise.all(
    streams.map(async (stream) => {
      for (let i = 0; i < numTokens; i++) await stream.next();
    }),
  );
  return performance.now() - startedAt;
}

/** Returns the milliseconds between consecutive items of a stream until it ends. */
export async function gapsOf(stream: AsyncIterable<unknown>): Promise<number[]> {
  const gaps: number[] = [];
  let previousAt: number | null = null;
  for await (const _item of stream) {
    const now = performance.now();
    if (previousAt !== null) gaps.push(now - previousAt);
    previousAt = now;
  }
  return gaps;
}

export interface BesideTimes {
  /** Milliseconds between consecutive items, from the first to the one that came after the work. */
  readonly gapsMs: readonly number[];
  readonly workMs: number;
}

/**
 * Starts `work` when the stream has yielded its first item, and takes items until the work is done. The stream must not end before.
 * @throws what the work throws.
 */
export async function gapsDuring(stream: AsyncIterable<unknown>, work: () => Promise<unknown>): Promise<BesideTimes> {
  const state: { running: Promise<number> | null; isDone: boolean } = { running: null, isDone: false };
  const timedWork = async () => {
    const startedAt = performance.now();
    try {
      await work();
      return performance.now() - startedAt;
    } finally {
      state.isDone = true;
    }
  };
  async function* untilDone() {
    for await (const item of stream) {
      yield item;
      if (state.isDone) return;
      state.running ??= timedWork();
      state.running.catch(() => {}); // awaited below
    }
  }
  const gapsMs = await gapsOf(untilDone());
  return { gapsMs, workMs: (await state.running) ?? 0 };
}

/** Items of one stream after another, without end: each next one is made when the last has ended. */
export async function* endless<T>(make: () => AsyncIterable<T>): AsyncGenerator<T, never, undefined> {
  for (;;) yield* make();
}
