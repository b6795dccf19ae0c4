/** Chats without a document. Their names are what was asked first. */
import { computed, signal } from '@preact/signals';
import { conversation, forget, storedChats } from './conversations.js';
import { goTo, place } from './place.js';

export interface Chat {
  readonly id: string;
  readonly name: string;
}

/** Ids begin with the time at which the chat began, so their order is that of time. */
const ids = signal<readonly string[]>(storedChats().sort());

/** Newest first. */
export const chats = computed<Chat[]>(() =>
  ids.value.map((id) => ({ id, name: conversation(`chat.${id}`).value[0]?.question ?? 'New chat' })).reverse(),
);

export function newChat(): void {
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 6)}`;
  goTo({ kind: 'chat', id });
}

/** A chat is in the list from its first question on. */
export function listChat(id: string): void {
  if (!ids.value.includes(id)) ids.value = [...ids.value, id];
}

export function deleteChat(id: string): void {
  ids.value = ids.value.filter((other) => other !== id);
  forget(`chat.${id}`);
  if (place.value.kind === 'chat' && place.value.id === id) goTo({ kind: 'start' });
}
