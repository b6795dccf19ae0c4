/** Who a request is from. Without API keys all requests are of one caller. */
import type { QueueCaller } from '@ctkvr/scheduler';
import type { Context } from 'hono';
import type { ApiKey } from './api-key.js';

export interface Caller extends QueueCaller {
  /** Whether a key says so. */
  readonly isKnown: boolean;
}

/** Callers without a key. */
export const anyone: Caller = {
  isKnown: false,
  name: 'anyone',
  weight: 1,
  priority: 0,
  maxRunning: Number.POSITIVE_INFINITY,
  maxQueued: Number.POSITIVE_INFINITY,
};

/** @param maxQueued of the server. */
export function callerWith(key: ApiKey, maxQueued: number): Caller {
  return {
    isKnown: true,
    name: key.name,
    weight: key.weight ?? 1,
    priority: key.priority ?? 0,
    maxRunning: key.maxRunning ?? Number.POSITIVE_INFINITY,
    maxQueued: key.maxQueued ?? Math.ceil(maxQueued / 2),
  };
}

/** Whose prompts a request may begin from: those of the same key with the same salt. */
export function cacheNamespace({ isKnown, name }: Caller, cacheSalt: string): string {
  return isKnown ? JSON.stringify([name, cacheSalt]) : cacheSalt;
}

/** The caller that `authenticate` found. */
export function callerOf(context: Context): Caller {
  return (context.get('caller') as Caller | undefined) ?? anyone;
}
