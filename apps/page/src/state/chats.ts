/** The list of chats without a document. Their names are what was asked first. */
import { signal } from '@preact/signals';
import { forget } from './conversations.js';
import { goTo, place } from './place.js';

export interface Chat {
  readonly id: string;
  readonly name: string;
}

const KEY = 'ctkvr.chats';
/** Letters of a name; a first message can be a whole text. */
const MAX_NAME = 80;

/** Newest first. */
export const chats = signal<readonly Chat[]>(readList());

export function newChat(): void {
  // Not randomUUID, which browsers have only where the page comes encrypted or from this machine.
  const id = Array.from(crypto.getRandomValues(new Uint32Array(2)), (part) => part.toString(36)).join('');
  goTo({ kind: 'chat', id });
}

/** A chat is in the list from its first question on. */
export function listChat(id: string, question: string): void {
  if (!chats.value.some((chat) => chat.id === id)) store([{ id, name: question.slice(0, MAX_NAME) }, ...chats.value]);
}

export function deleteChat(id: string): void {
  store(chats.value.filter((chat) => chat.id !== id));
  forget(`chat.${id}`);
  if (place.value.kind === 'chat' && place.value.id === id) goTo({ kind: 'start' });
}

function readList(): Chat[] {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? '[]');
  } catch {
    return []; // not written by this page
  }
}

function store(list: readonly Chat[]): void {
  chats.value = list;
  localStorage.setItem(KEY, JSON.stringify(list));
}
