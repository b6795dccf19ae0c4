/** The items of a response's output: messages, thoughts, calls of tools. */
import type { ScoredToken } from './chat-engine.js';
import type { AnswerHead } from './protocol.js';
import { toScored } from './scored-token.js';
import type { AnswerCall } from './tools/tool-use.js';

export type ItemStatus = 'in_progress' | 'completed' | 'incomplete';

export interface ItemPlace {
  readonly head: AnswerHead;
  /** Among the items of the output. */
  readonly index: number;
  readonly status: ItemStatus;
}

export function messageItem(place: ItemPlace, content: readonly object[]) {
  return { id: itemId(place, 'msg_'), type: 'message', status: place.status, role: 'assistant', content };
}

/** Thoughts are whole, so the summary that other servers send in their place is empty. */
export function reasoningItem(place: ItemPlace, content: readonly object[]) {
  return { id: itemId(place, 'rs_'), type: 'reasoning', status: place.status, summary: [], content };
}

export function callItem(place: ItemPlace, { id, name, arguments: args }: AnswerCall) {
  return { id: itemId(place, 'fc_'), type: 'function_call', status: place.status, call_id: id, name, arguments: args };
}

export function textPart(text: string, tokens: readonly ScoredToken[] = []) {
  return { type: 'output_text', text, annotations: [], logprobs: tokens.map(toScored) };
}

export function reasoningPart(text: string) {
  return { type: 'reasoning_text', text };
}

function itemId({ head, index }: ItemPlace, prefix: string): string {
  const id = head.id.slice(head.id.indexOf('_') + 1);
  return `${prefix}${id}${index === 0 ? '' : `_${index}`}`;
}
