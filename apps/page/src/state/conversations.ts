/**
 * All conversations, kept by this browser: the server stores documents, not what was asked. They are in IndexedDB, because what was read
 * for the tokens of one answer takes hundreds of kilobytes, and localStorage holds five megabytes in all.
 */
import { type Signal, signal } from '@preact/signals';
import { createStore, del, get, set } from 'idb-keyval';
import { isRunning, type Turn } from './conversation.js';
import { notice } from './notice.js';
import type { Place } from './place.js';

const store = createStore('ctkvr', 'conversations');

interface Kept {
  readonly turns: Signal<readonly Turn[]>;
  /** Resolves when what was stored is in `turns`. */
  readonly isLoaded: Promise<void>;
}

const kept = new Map<string, Kept>();

/** The key of a place's conversation. */
export function keyOf(place: Place): string {
  return place.kind === 'start' ? 'start' : `${place.kind}.${place.id}`;
}

/** The turns of a conversation; none until they are loaded. */
export function conversation(key: string): Signal<readonly Turn[]> {
  return open(key).turns;
}

/** The same when they are loaded. */
export async function loadedConversation(key: string): Promise<Signal<readonly Turn[]>> {
  const { turns, isLoaded } = open(key);
  await isLoaded;
  return turns;
}

/** Stores the conversation as it is, unless it was deleted in the meantime. */
export async function keep(key: string): Promise<void> {
  const turns = kept.get(key)?.turns.value;
  if (turns === undefined) return;
  try {
    await set(key, turns, store);
  } catch {
    notice.value = {
      what: 'This browser does not keep the conversation.',
      remedy: 'It is lost when the page is closed. Make room on the disk, or leave private browsing.',
    };
  }
}

export async function forget(key: string): Promise<void> {
  kept.delete(key);
  await del(key, store).catch(() => {}); // what cannot be stored is not there either
}

function open(key: string): Kept {
  let entry = kept.get(key);
  if (entry === undefined) {
    const turns = signal<readonly Turn[]>([]);
    const isLoaded = load(key, turns);
    entry = { turns, isLoaded };
    kept.set(key, entry);
  }
  return entry;
}

/** An answer that was running when the page was closed has stopped. */
async function load(key: string, into: Signal<readonly Turn[]>): Promise<void> {
  const stored = await get<Turn[]>(key, store).catch(() => undefined);
  into.value = (stored ?? []).map(({ question, answer }) => ({
    question,
    answer: isRunning(answer) ? { ...answer, state: 'stopped' } : answer,
  }));
}
