/** From the messages of Anthropic's protocol to those that a chat template reads: calls and results of tools are no blocks there. */
import type { AnthropicBlock, AnthropicPrompt } from './anthropic-fields.js';
import { type ChatMessage, type MessagesPrompt, type ToolCall, toMessagesPrompt } from './generation-request.js';
import { mustBe } from './invalid-value.js';
import { anthropicEffort, anthropicToolUse } from './tools/anthropic-tool-fields.js';

type Role = AnthropicPrompt['messages'][number]['role'];

/** @throws {ApiError} 400 naming what is wrong with the messages or the tools. */
export function anthropicPrompt(given: AnthropicPrompt): MessagesPrompt {
  return toMessagesPrompt(anthropicMessages(given), {
    toolUse: anthropicToolUse(given),
    effort: anthropicEffort(given),
  });
}

/** @throws {ApiError} 400 naming what a block lacks, or the block that is out of place. */
export function anthropicMessages({ system, messages }: AnthropicPrompt): ChatMessage[] {
  const turns = new Turns();
  if (system !== undefined) turns.addText('system', joined(system));
  for (const [at, { role, content }] of messages.entries()) {
    const blocks = typeof content === 'string' ? [{ type: 'text', text: content } as const] : content;
    for (const [index, block] of blocks.entries()) {
      addBlock(turns, { role, block, path: `messages[${at}].content[${index}]` });
    }
  }
  return turns.messages;
}

function addBlock(turns: Turns, { role, block, path }: { role: Role; block: AnthropicBlock; path: string }): void {
  const need = <K extends keyof AnthropicBlock>(name: K): NonNullable<AnthropicBlock[K]> => {
    const value = block[name];
    if (value === undefined || value === null) throw mustBe(`${path}.${name}`, 'there', value);
    return value;
  };
  if (block.type === 'text') {
    turns.addText(role, need('text'));
  } else if (block.type === 'tool_use') {
    if (role !== 'assistant') throw mustBe(`${path}.type`, 'a block of an assistant', block.type);
    const { name, input } = { name: need('name'), input: need('input') };
    turns.addCall({ id: need('id'), type: 'function', function: { name, arguments: input } });
  } else if (block.type === 'tool_result') {
    if (role !== 'user') throw mustBe(`${path}.type`, 'a block of a user', block.type);
    const content = `${block.is_error ? 'Error: ' : ''}${joined(block.content ?? '')}`;
    turns.addResult({ role: 'tool', content, tool_call_id: need('tool_use_id') });
  }
}

/** Messages as they grow: what follows of the same role belongs to the same turn. */
class Turns {
  readonly messages: ChatMessage[] = [];

  addText(role: Role, text: string): void {
    const last = this.#turnOf(role);
    const content = [last.content, text].filter((one) => one !== '').join(PARAGRAPH);
    this.#replaceLast({ ...last, content });
  }

  addCall(call: ToolCall): void {
    const last = this.#turnOf('assistant');
    this.#replaceLast({ ...last, tool_calls: [...(last.tool_calls ?? []), call] });
  }

  addResult(message: ChatMessage): void {
    this.messages.push(message);
  }

  #turnOf(role: Role): ChatMessage {
    const last = this.messages.at(-1);
    if (last?.role === role) return last;
    const turn = { role, content: '' };
    this.messages.push(turn);
    return turn;
  }

  #replaceLast(message: ChatMessage): void {
    this.messages[this.messages.length - 1] = message;
  }
}

const PARAGRAPH = '\n\n';

function joined(content: NonNullable<AnthropicPrompt['system']>): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join(PARAGRAPH);
}
