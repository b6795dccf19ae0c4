/** A session as it is read, as server-sent events: one session object an event, the last when it is ready or has failed. */
import type { Context } from 'hono';
import { EventStream } from '../event-stream.js';
import type { SessionInfo } from './document-sessions.js';
import { toSessionError } from './session-error.js';
import { toSessionJson } from './session-json.js';

interface SessionEventsOptions {
  readonly model: string;
  readonly watch: (signal: AbortSignal) => AsyncGenerator<SessionInfo, void, undefined>;
  /** Silence after which a comment is sent, ms. */
  readonly keepAliveMs: number;
  readonly signal: AbortSignal;
}

export function sessionEvents(context: Context, options: SessionEventsOptions): Response {
  const { model, watch, keepAliveMs, signal } = options;
  const left = new AbortController();
  const stream = new EventStream({ keepAliveMs, onCancel: () => left.abort() });
  const send = async () => {
    try {
      for await (const session of watch(AbortSignal.any([signal, left.signal])))
        stream.send({ data: toSessionJson({ model, session }) });
    } catch (error) {
      stream.send({ data: toSessionError(error, null).toBody() });
    } finally {
      stream.end();
    }
  };
  void send();
  return stream.toResponse(context);
}
