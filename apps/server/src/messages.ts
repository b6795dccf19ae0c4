/** POST /v1/messages: Anthropic's protocol. */
import { anthropicFields, anthropicSchema } from './anthropic-fields.js';
import { toBlocks, toMessage, toMessageUsage, toStop } from './anthropic-message.js';
import { anthropicPrompt } from './anthropic-messages.js';
import { checkBody } from './check-fields.js';
import type { ParsedRequest, Protocol } from './protocol.js';
import { StreamedMessage } from './streamed-message.js';
import { toGeneration } from './to-generation.js';
import { anthropicJson } from './tools/anthropic-tool-fields.js';

export const messages: Protocol<ParsedRequest> = {
  idPrefix: 'msg_',
  promptField: 'messages',

  parse: (json) => {
    const { stop_sequences: stop, max_tokens: maxTokens, ...given } = checkBody(json, anthropicFields, anthropicSchema);
    const asked = { prompt: anthropicPrompt(given), maxTokens, json: anthropicJson(given) };
    return { model: given.model, stream: given.stream ?? false, generation: toGeneration({ ...given, stop }, asked) };
  },

  whole: (_request, head, answer) => ({
    ...toMessage(head, toBlocks(answer)),
    ...toStop(answer.finish),
    usage: toMessageUsage(answer.numPromptTokens, answer.finish),
    ctkvr: answer.finish.statistics,
  }),

  stream: (_request, head, numPromptTokens) => new StreamedMessage(head, numPromptTokens),
};
