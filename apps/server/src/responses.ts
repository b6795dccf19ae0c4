/** POST /v1/responses: OpenAI's newer protocol, without its memory. Nothing is stored: a request has the whole conversation. */
import { checkBody } from './check-fields.js';
import { type AskedEffort, toMessagesPrompt } from './generation-request.js';
import { mustBe } from './invalid-value.js';
import type { Answer, AnswerHead, Protocol } from './protocol.js';
import { type ResponseValues, responseFields, responseSchema } from './response-fields.js';
import { callItem, type ItemPlace, messageItem, reasoningItem, reasoningPart, textPart } from './response-items.js';
import { responseMessages } from './response-messages.js';
import { endedResponse, endStatus, type ResponseRequest } from './response-object.js';
import { StreamedResponse } from './streamed-response.js';
import { toGeneration } from './to-generation.js';
import { toAnswerJson, toTool } from './tools/openai-tool-fields.js';
import { toToolUse } from './tools/to-tool-use.js';
import type { ToolUse } from './tools/tool-use.js';

export const responses: Protocol<ResponseRequest> = {
  idPrefix: 'resp_',
  promptField: 'input',

  parse: (json) => {
    const given = checkBody(json, responseFields, responseSchema);
    const prompt = toMessagesPrompt(responseMessages(given), { effort: effortOf(given), toolUse: toolsOf(given) });
    const form = given.text?.format;
    const generation = toGeneration(given, {
      prompt,
      maxTokens: given.max_output_tokens ?? null,
      numTopLogprobs: numTopOf(given),
      json: toAnswerJson(form?.type, form?.schema, 'text.format'),
    });
    return { model: given.model, stream: given.stream ?? false, generation, given };
  },

  whole: (request, head, answer) => {
    const { finish, numPromptTokens } = answer;
    return endedResponse(request, head, { output: toOutput(head, answer), finish, numPromptTokens });
  },

  stream: (request, head, numPromptTokens) => new StreamedResponse(request, head, numPromptTokens),
};

function effortOf({ reasoning }: ResponseValues): AskedEffort | null {
  return reasoning?.effort === undefined ? null : { level: reasoning.effort, field: 'reasoning.effort' };
}

function numTopOf({ include = [], top_logprobs: numTop = 0 }: ResponseValues): number | null {
  const wanted = include.includes('message.output_text.logprobs');
  if (numTop > 0 && !wanted) throw mustBe('top_logprobs', '0 unless message.output_text.logprobs is included', numTop);
  return wanted ? numTop : null;
}

function toolsOf({ tools = [], tool_choice: choice, parallel_tool_calls: parallel }: ResponseValues): ToolUse | null {
  return toToolUse({ tools: tools.map(toTool), choice, parallel });
}

/** An answer without text is a message all the same, if it is nothing else. */
function toOutput(head: AnswerHead, { text, thinking, calls, textTokens, finish }: Answer): object[] {
  const output: object[] = [];
  const place = (status: ItemPlace['status'] = 'completed') => ({ head, index: output.length, status });
  if (thinking !== '') output.push(reasoningItem(place(), [reasoningPart(thinking)]));
  if (text !== '' || output.length + calls.length === 0) {
    const status = calls.length > 0 ? 'completed' : endStatus(finish);
    output.push(messageItem(place(status), [textPart(text, textTokens)]));
  }
  for (const call of calls) output.push(callItem(place(), call));
  return output;
}
