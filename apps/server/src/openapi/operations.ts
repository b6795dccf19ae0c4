/** Every route, as the OpenAPI document tells of it. A test holds this list to the routes that there are. */
import { anthropicFields, anthropicSchema, countFields, countSchema } from '../anthropic-fields.js';
import { completionFields, completionSchema } from '../completion-fields.js';
import { requestFields, requestSchema } from '../request-fields.js';
import { responseFields, responseSchema } from '../response-fields.js';
import { detokenizeFields, detokenizeSchema, tokenizeFields, tokenizeSchema } from '../token-fields.js';
import type { AnswerName } from './answer-schemas.js';
import { bodySchema, type JsonSchema } from './body-schema.js';

export interface Operation {
  readonly method: 'get' | 'post' | 'patch' | 'delete';
  readonly path: string;
  readonly summary: string;
  readonly body?: JsonSchema;
  /** Names of what may stand in its query. */
  readonly query?: readonly string[];
  /** A body that is answered, but for its `model`. */
  readonly example?: object;
  /** Content types of bodies that are no JSON, beside `body`. */
  readonly otherBodies?: readonly string[];
  /** With `answers` left out too: it only ever refuses. */
  readonly answer?: AnswerName;
  /** Content type of an answer that is no JSON. */
  readonly answers?: string;
  /** Default 200. */
  readonly status?: 200 | 201 | 202;
  /** Whether the answer may be a stream of events. */
  readonly streams?: boolean;
  /** Statuses of its errors; 403 and 500 are any route's. */
  readonly errors: readonly number[];
  readonly errorShape?: AnswerName;
}

const onModel = [400, 404, 413, 415, 429, 503];
const onText = [400, 404, 413, 415];
const messages = [{ role: 'user', content: 'Name one colour.' }];
const chatBody = bodySchema(requestFields, requestSchema);

export const operations: readonly Operation[] = [
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Answer a conversation (OpenAI)',
    body: chatBody,
    example: { messages, max_tokens: 20 },
    answer: 'chatCompletion',
    streams: true,
    errors: onModel,
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Continue a text (OpenAI)',
    body: bodySchema(completionFields, completionSchema),
    example: { prompt: 'The sea is', max_tokens: 20 },
    answer: 'completion',
    streams: true,
    errors: onModel,
  },
  {
    method: 'post',
    path: '/v1/responses',
    summary: 'Answer a conversation (OpenAI’s newer protocol); nothing is stored',
    body: bodySchema(responseFields, responseSchema),
    example: { input: 'Name one colour.', max_output_tokens: 20 },
    answer: 'response',
    streams: true,
    errors: onModel,
  },
  {
    method: 'post',
    path: '/v1/messages',
    summary: 'Answer a conversation (Anthropic)',
    body: bodySchema(anthropicFields, anthropicSchema),
    example: { messages, max_tokens: 20 },
    answer: 'message',
    streams: true,
    errors: onModel,
    errorShape: 'anthropicError',
  },
  {
    method: 'post',
    path: '/v1/messages/count_tokens',
    summary: 'Count the tokens of a conversation (Anthropic)',
    body: bodySchema(countFields, countSchema),
    example: { messages },
    answer: 'tokenCount',
    errors: onText,
    errorShape: 'anthropicError',
  },
  { method: 'post', path: '/v1/embeddings', summary: 'Refused: no embeddings are made', errors: [400] },
  { method: 'get', path: '/v1/models', summary: 'List the models served', answer: 'models', errors: [] },
  { method: 'get', path: '/v1/models/{id}', summary: 'Tell of a model', answer: 'model', errors: [404] },
  {
    method: 'post',
    path: '/tokenize',
    summary: 'The tokens of a text',
    body: bodySchema(tokenizeFields, tokenizeSchema),
    example: { content: 'Name one colour.' },
    answer: 'tokens',
    errors: onText,
  },
  {
    method: 'post',
    path: '/detokenize',
    summary: 'The text of tokens',
    body: bodySchema(detokenizeFields, detokenizeSchema),
    example: { tokens: [72, 105] },
    answer: 'content',
    errors: onText,
  },
  {
    method: 'post',
    path: '/apply-template',
    summary: 'The prompt that the chat template makes of a conversation',
    body: { ...chatBody, required: ['messages'] },
    example: { messages },
    answer: 'prompt',
    errors: onText,
  },
  { method: 'get', path: '/props', summary: 'Settings of server and model', answer: 'properties', errors: [] },
  { method: 'get', path: '/health', summary: 'Whether the server works', answer: 'health', errors: [] },
  { method: 'get', path: '/ready', summary: 'Whether a request would be taken', answer: 'ready', errors: [] },
  { method: 'get', path: '/metrics', summary: 'Figures for Prometheus', answers: 'text/plain', errors: [] },
  { method: 'get', path: '/openapi.json', summary: 'This document', answer: 'openApi', errors: [] },
];
