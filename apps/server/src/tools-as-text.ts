/**
 * Calls of tools and their results in a conversation's history, for templates that know nothing of them: such a template would leave calls
 * out, or refuse the role. They become text in the form of Hermes and Qwen, which most models have seen. llama.cpp's server does the like.
 */
import type { ChatMessage, ToolCall } from './generation-request.js';
import { isWithinJsonBounds } from './json-scanner.js';

/** Returns the messages with what `template` (Jinja source) does not know written into their content. */
export function withToolsAsText(messages: readonly ChatMessage[], template: string): ChatMessage[] {
  const knowsCalls = /\btool_calls\b/.test(template);
  const knowsResults = /(['"])tool\1/.test(template);
  const written: ChatMessage[] = [];
  let previous: ChatMessage | null = null;
  for (const message of messages) {
    const last = written.at(-1);
    if (message.role === 'tool' && !knowsResults) {
      const result = `<tool_response>\n${message.content}\n</tool_response>`;
      // Results of calls that were made together are one turn: many templates want turns to alternate.
      const joins = previous?.role === 'tool' && last !== undefined;
      if (joins) written[written.length - 1] = { ...last, content: `${last.content}\n${result}` };
      else written.push({ role: 'user', content: result });
    } else {
      written.push(knowsCalls ? message : withCallsAsText(message));
    }
    previous = message;
  }
  return written;
}

function withCallsAsText({ tool_calls: calls = [], ...message }: ChatMessage): ChatMessage {
  const texts = calls.map((call) => `<tool_call>\n${JSON.stringify(call.function)}\n</tool_call>`);
  return { ...message, content: [message.content, ...texts].filter((text) => text !== '').join('\n') };
}

/** @param args the arguments as the protocol has them: a text that should be JSON. */
export function toToolCall({ id, name, args }: { id: string; name: string; args: string }): ToolCall {
  return { id, type: 'function', function: { name, arguments: objectOr(args) } };
}

/** Templates want an object; what the model once wrote may be none. Clients send nothing for no arguments. */
function objectOr(text: string): unknown {
  if (text === '') return {};
  if (!isWithinJsonBounds(text)) return text;
  try {
    const value: unknown = JSON.parse(text);
    JSON.stringify(value); // throws for what is nested deeper than the stack: templates and their process could not pass it on
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : text;
  } catch {
    return text;
  }
}
