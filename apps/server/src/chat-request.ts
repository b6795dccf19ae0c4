/** The body of POST /v1/chat/completions, checked field by field against the tables of request-fields.ts. */
import { ownTemplateVariables } from '@ctkvr/model-runner';
import { ApiError } from './api-error.js';
import { checkBody } from './check-fields.js';
import { checkStreamOptions } from './check-stream-options.js';
import {
  type ChatMessage,
  endsInAnswer,
  type MessagesPrompt,
  type ToolCall,
  toMessagesPrompt,
} from './generation-request.js';
import { mustBe } from './invalid-value.js';
import type { ParsedRequest } from './protocol.js';
import { type RequestValues, requestFields, requestSchema } from './request-fields.js';
import { toGeneration } from './to-generation.js';
import { formatJson, toTool } from './tools/openai-tool-fields.js';
import { toToolUse } from './tools/to-tool-use.js';
import type { ToolUse } from './tools/tool-use.js';
import { toToolCall } from './tools-as-text.js';

export interface ChatRequest extends ParsedRequest {
  readonly includeUsage: boolean;
}

/** Returns the checked request. @throws {ApiError} 400 with `param` naming the first field that is wrong. */
export function parseChatRequest(json: unknown): ChatRequest {
  const given = checkBody(json, requestFields, requestSchema);
  const maxTokens = given.max_completion_tokens ?? given.max_tokens ?? null;
  const prompt = promptOf(given);
  return {
    ...checkStreamOptions(given),
    model: given.model,
    numChoices: given.n ?? 1,
    generation: toGeneration(given, {
      prompt,
      maxTokens,
      numTopLogprobs: numTopOf(given),
      json: formatJson(given.response_format),
      sessionId: sessionOf(given),
      readMap: given.ctkvr?.read_map ?? false,
    }),
  };
}

function toolsOf({ tools = [], tool_choice: choice, parallel_tool_calls: parallel }: RequestValues): ToolUse | null {
  return toToolUse({
    tools: tools.map((tool) => toTool(tool.function)),
    choice: typeof choice === 'object' ? choice.function : choice,
    parallel,
  });
}

/** The document comes before the first message, which therefore is the user's. */
function sessionOf({ session, messages, ctkvr }: RequestValues): string | null {
  if (session !== undefined && messages[0]?.role !== 'user') {
    throw mustBe('messages[0].role', '"user" beside session, whose document comes first', messages[0]?.role);
  }
  const { read_map: _told, ...settings } = ctkvr ?? {};
  const [setting] = Object.keys(settings);
  if (session !== undefined && setting !== undefined) {
    throw mustBe(`ctkvr.${setting}`, 'left out beside session, which keeps the settings it was read with', setting);
  }
  return session ?? null;
}

function numTopOf({ logprobs = false, top_logprobs: numTop = 0 }: RequestValues): number | null {
  if (numTop > 0 && !logprobs) throw mustBe('top_logprobs', '0 without logprobs: true', numTop);
  return logprobs ? numTop : null;
}

function promptOf(given: RequestValues): MessagesPrompt {
  const messages = given.messages.map(toMessage);
  const { chat_template_kwargs: variables, reasoning_effort: level } = given;
  const effort = level === undefined ? null : { level, field: 'reasoning_effort' };
  checkVariables(variables);
  return toMessagesPrompt(messages, { ending: endingOf(given, messages), variables, effort, toolUse: toolsOf(given) });
}

function endingOf(given: RequestValues, messages: readonly ChatMessage[]): MessagesPrompt['ending'] {
  const { continue_final_message: asked, add_generation_prompt: beginAnswer = true } = given;
  const canGoOn = endsInAnswer(messages);
  const prefix = given.messages.findIndex((message) => message.prefix);
  if (prefix >= 0 && (!canGoOn || prefix < messages.length - 1)) {
    throw mustBe(`messages[${prefix}].prefix`, 'false, but in a last message of the assistant', true);
  }
  if (asked && !canGoOn) {
    throw mustBe('continue_final_message', 'false where the last message is no answer of the assistant', asked);
  }
  if (prefix >= 0 || (asked ?? canGoOn)) return 'continue';
  return beginAnswer ? 'answer' : 'none';
}

function toMessage(message: RequestValues['messages'][number], index: number): ChatMessage {
  const { role, content, tool_calls: calls = [], tool_call_id: callId } = message;
  const path = `messages[${index}]`;
  if (calls.length > 0 && role !== 'assistant') {
    throw mustBe(`${path}.tool_calls`, 'in a message of the assistant', calls);
  }
  if (callId !== undefined && role !== 'tool') throw mustBe(`${path}.tool_call_id`, 'in a message of a tool', callId);
  if (content === undefined && calls.length === 0) {
    throw mustBe(`${path}.content`, 'a text, or a list of text parts', content);
  }
  return {
    role: role === 'developer' ? 'system' : role, // GGUF chat templates do not know OpenAI's newer word
    content: content === undefined ? '' : plainText(content),
    ...(calls.length > 0 ? { tool_calls: calls.map(toCall) } : {}),
    ...(callId === undefined ? {} : { tool_call_id: callId }),
  };
}

function toCall({
  id,
  function: called,
}: NonNullable<RequestValues['messages'][number]['tool_calls']>[number]): ToolCall {
  return toToolCall({ id, name: called.name, args: called.arguments });
}

function checkVariables(variables: RequestValues['chat_template_kwargs']): void {
  const own = [...ownTemplateVariables, 'tools'].find((name) => Object.hasOwn(variables ?? {}, name));
  if (own === undefined) return;
  throw new ApiError(400, `'chat_template_kwargs.${own}' cannot be honoured: other fields of the request say it.`, {
    param: `chat_template_kwargs.${own}`,
    code: 'unsupported_parameter',
  });
}

function plainText(value: string | readonly { readonly text: string }[]): string {
  return typeof value === 'string' ? value : value.map((part) => part.text).join('');
}
