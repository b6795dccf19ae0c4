/** The end of a connection that serves: runs the methods that the other process calls, and sends it what they give. */
import { CtkvrError } from '@ctkvr/core';
import { type CallMessage, type Channel, type ReplyMessage, STREAM_WINDOW } from './messages.js';
import { fromRemoteError, toRemoteError } from './remote-error.js';

/** Objects whose methods are promises or async generators over plain data, by their names. */
export type Services = Readonly<Record<string, object>>;

type Begin = Extract<CallMessage, { type: 'call' | 'stream' }>;

/** A call under way. */
interface Running {
  readonly abort: AbortController;
  /** Of a stream: items that may still be sent. */
  credit: number;
  stopped: boolean;
  /** Called when one of both changes. */
  wake: () => void;
}

export function serveCalls(channel: Channel<ReplyMessage, CallMessage>, services: Services): void {
  const running = new Map<number, Running>();
  const send = (reply: ReplyMessage) =>
    channel.post(reply, (cause) =>
      channel.post({ type: 'error', id: reply.id, error: toRemoteError(cause) }, () => {}),
    );

  channel.listen((message) => {
    if (message.type === 'call' || message.type === 'stream') {
      const call = { abort: new AbortController(), credit: STREAM_WINDOW, stopped: false, wake: () => {} };
      running.set(message.id, call);
      void serve(message, call, services, send).finally(() => running.delete(message.id));
      return;
    }
    const call = running.get(message.id);
    if (call === undefined) return; // it has ended; the other side will see so
    if (message.type === 'abort') call.abort.abort(fromRemoteError(message.reason));
    if (message.type === 'more') call.credit += message.count;
    if (message.type === 'stop') call.stopped = true;
    call.wake();
  });
}

async function serve(
  begin: Begin,
  call: Running,
  services: Services,
  send: (reply: ReplyMessage) => void,
): Promise<void> {
  const { id } = begin;
  try {
    const returned = invoke(begin, call.abort.signal, services);
    if (begin.type === 'stream') await sendItems(id, returned as AsyncIterable<unknown>, call, send);
    send({ type: 'result', id, value: begin.type === 'stream' ? undefined : await returned });
  } catch (error) {
    send({ type: 'error', id, error: toRemoteError(error) });
  }
}

function invoke({ service, method, args, signal: place }: Begin, signal: AbortSignal, services: Services): unknown {
  const object = services[service] as Record<string, (...args: unknown[]) => unknown> | undefined;
  if (typeof object?.[method] !== 'function') {
    throw new CtkvrError('CTKVR_INTERNAL', `the other process serves no ${service}.${method}`);
  }
  const given = [...args];
  if (place !== null) {
    const { argument, property } = place;
    given[argument] = property === null ? signal : { ...(given[argument] as object), [property]: signal };
  }
  return object[method](...given);
}

/** Sends what a stream gives, as fast as it is read at the other end. */
async function sendItems(
  id: number,
  items: AsyncIterable<unknown>,
  call: Running,
  send: (reply: ReplyMessage) => void,
): Promise<void> {
  for await (const value of items) {
    send({ type: 'item', id, value });
    call.credit -= 1;
    while (call.credit === 0 && !call.stopped) {
      await new Promise<void>((resolve) => {
        call.wake = resolve;
      });
    }
    if (call.stopped) return; // which ends the generator, and waits for it
  }
}
