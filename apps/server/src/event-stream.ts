/**
 * Server-sent events from an async generator. The generator is pulled by the socket, so a slow reader slows its own request; a
 * comment goes out while nothing else does (a long prefill), so that neither client nor proxy takes the silence for a dead server.
 */
import { ReadableStream } from 'node:stream/web';

export interface EventStreamOptions {
  /** Milliseconds of silence after which a comment is sent. */
  readonly keepAliveMs: number;
  /** Called once when the reader has gone; must make `frames` end soon. */
  readonly onCancel: () => void;
}

/** One event's `data` field, already serialised; holds no line break. */
export type EventData = string;

/**
 * Returns the body of a text/event-stream response. `frames` must not throw: what goes wrong is a frame too. It is always run to its
 * end or returned, whoever closes first.
 */
export function eventStream(
  frames: AsyncGenerator<EventData, void, undefined>,
  options: EventStreamOptions,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let pending: Promise<IteratorResult<EventData, void>> | null = frames.next(); // begun here, so that its finally runs
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        pending ??= frames.next();
        const next = await orSilence(pending, options.keepAliveMs);
        if (next === 'silence') {
          controller.enqueue(encoder.encode(': keep-alive\n\n'));
          return;
        }
        pending = null;
        if (next.done) controller.close();
        else controller.enqueue(encoder.encode(`data: ${next.value}\n\n`));
      },
      async cancel() {
        options.onCancel();
        await frames.return();
      },
    },
    { highWaterMark: 1 },
  );
}

async function orSilence<T>(value: Promise<T>, ms: number): Promise<T | 'silence'> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<'silence'>((resolve) => {
    timer = setTimeout(() => resolve('silence'), ms);
  });
  try {
    return await Promise.race([value, silence]);
  } finally {
    clearTimeout(timer);
  }
}
