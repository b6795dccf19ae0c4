/** From the input of POST /v1/responses to the messages that a chat template reads. */
import type { ChatMessage } from './generation-request.js';
import { mustBe } from './invalid-value.js';
import type { ResponseItem, ResponseValues } from './response-fields.js';
import { toToolCall } from './tools-as-text.js';

/** @throws {ApiError} 400 naming what an item lacks. */
export function responseMessages({ instructions, input }: ResponseValues): ChatMessage[] {
  const messages: ChatMessage[] = instructions === undefined ? [] : [{ role: 'system', content: instructions }];
  if (typeof input === 'string') return [...messages, { role: 'user', content: input }];
  for (const [index, item] of input.entries()) {
    const need = <K extends keyof ResponseItem>(name: K): NonNullable<ResponseItem[K]> => {
      const value = item[name];
      if (value === undefined || value === null) throw mustBe(`input[${index}].${name}`, 'there', value);
      return value;
    };
    if (item.type === 'message') {
      const role = need('role');
      messages.push({ role: role === 'developer' ? 'system' : role, content: plainText(need('content')) });
    } else if (item.type === 'function_call_output') {
      messages.push({ role: 'tool', content: plainText(need('output')), tool_call_id: need('call_id') });
    } else if (item.type === 'function_call') {
      addCall(messages, toToolCall({ id: need('call_id'), name: need('name'), args: need('arguments') }));
    }
  }
  return messages;
}

/** Calls are items of their own, beside the text of the same turn. */
function addCall(messages: ChatMessage[], call: NonNullable<ChatMessage['tool_calls']>[number]): void {
  const last = messages.at(-1);
  const turn: ChatMessage = last?.role === 'assistant' ? last : { role: 'assistant', content: '' };
  const changed = { ...turn, tool_calls: [...(turn.tool_calls ?? []), call] };
  if (turn === last) messages[messages.length - 1] = changed;
  else messages.push(changed);
}

function plainText(value: NonNullable<ResponseItem['content']>): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}
