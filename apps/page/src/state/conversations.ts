/** All conversations, kept by this browser: the server stores documents, not what was asked. */
import { type Signal, signal } from '@preact/signals';
import { isRunning, type Turn } from './conversation.js';
import { notice } from './notice.js';
import type { Place } from './place.js';

const PREFIX = 'ctkvr.conversation.';

const loaded = new Map<string, Signal<readonly Turn[]>>();

/** The key of a place's conversation. */
export function keyOf(place: Place): string {
  return place.kind === 'start' ? 'start' : `${place.kind}.${place.id}`;
}

export function conversation(key: string): Signal<readonly Turn[]> {
  let turns = loaded.get(key);
  if (turns === undefined) {
    turns = signal(read(key));
    loaded.set(key, turns);
  }
  return turns;
}

/** Stores the conversation as it is, unless it was deleted in the meantime. */
export function keep(key: string): void {
  if (!loaded.has(key)) return;
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify(conversation(key).value));
  } catch {
    notice.value = {
      what: 'This browser has no room left for the conversation.',
      remedy: 'It is lost when the page is closed. Delete others to make room.',
    };
  }
}

export function forget(key: string): void {
  loaded.delete(key);
  localStorage.removeItem(PREFIX + key);
}

/** Ids of stored chats. */
export function storedChats(): string[] {
  const start = `${PREFIX}chat.`;
  return Object.keys(localStorage)
    .filter((key) => key.startsWith(start))
    .map((key) => key.slice(start.length));
}

/** An answer that was running when the page was closed has stopped. */
function read(key: string): Turn[] {
  let turns: Turn[];
  try {
    turns = JSON.parse(localStorage.getItem(PREFIX + key) ?? '[]');
  } catch {
    turns = []; // not written by this page
  }
  return turns.map((turn) =>
    isRunning(turn.answer) ? { ...turn, answer: { ...turn.answer, state: 'stopped' } } : turn,
  );
}
