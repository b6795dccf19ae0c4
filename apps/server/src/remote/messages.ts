/**
 * What two processes say to each other: one calls methods, the other serves them. Arguments, results and items are plain data, typed arrays
 * included. Both ends belong to one program: nothing here is checked against an enemy.
 */
import type { RemoteErrorData } from './remote-error.js';

/** Items of a stream that may be under way, unread: enough that a sender of tokens never waits for a reader that keeps up. */
export const STREAM_WINDOW = 32;

/** Where among the arguments an AbortSignal was: it stays behind, and the other side makes one of its own. */
export interface SignalPlace {
  readonly argument: number;
  /** The property of the argument that holds it; null when the argument is the signal. */
  readonly property: string | null;
}

/** From who calls. `id`: one for each call. */
export type CallMessage =
  | {
      readonly type: 'call' | 'stream';
      readonly id: number;
      readonly service: string;
      readonly method: string;
      readonly args: readonly unknown[];
      readonly signal: SignalPlace | null;
    }
  | { readonly type: 'abort'; readonly id: number; readonly reason: RemoteErrorData }
  /** Of a stream: so many more items may come. */
  | { readonly type: 'more'; readonly id: number; readonly count: number }
  /** Of a stream: nobody reads on. */
  | { readonly type: 'stop'; readonly id: number };

/** From who serves. After `result` or `error` nothing comes for that id; for a stream `result` is its end. */
export type ReplyMessage =
  | { readonly type: 'item'; readonly id: number; readonly value: unknown }
  | { readonly type: 'result'; readonly id: number; readonly value: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: RemoteErrorData };

/** One end of a connection. Messages come whole and in order, until there is nobody left who reads them. */
export interface Channel<Sent, Received> {
  /** @param refused called, soon after, when the message holds what cannot be copied, such as a function. */
  post(message: Sent, refused: (cause: unknown) => void): void;
  /** Sets who is given each message. */
  listen(listener: (message: Received) => void): void;
}
