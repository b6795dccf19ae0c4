/** Fields of POST /tokenize and /detokenize, as llama.cpp's server has them (tools/server/README.md). */
import { z } from 'zod';
import { type FieldTable, honoured, schemaOf } from './field-rules.js';

const model = honoured('vLLM', z.string().min(1), 'the name served, if given; another is a 404');

export const tokenizeFields = {
  content: honoured('llama.cpp', z.string(), 'the text'),
  add_special: honoured('llama.cpp', z.boolean(), 'default false; true = begin with BOS, where the model’s prompts do'),
  parse_special: honoured('llama.cpp', z.boolean(), 'default true; false = control tokens are text like other text'),
  with_pieces: honoured(
    'llama.cpp',
    z.boolean(),
    'default false; true = objects of id and piece, a list of bytes where those are not UTF-8',
  ),
  model,
} satisfies FieldTable;

export const tokenizeSchema = schemaOf(tokenizeFields, ['content']);

export const detokenizeFields = {
  tokens: honoured('llama.cpp', z.array(z.int().min(0)), 'token ids'),
  model,
} satisfies FieldTable;

export const detokenizeSchema = schemaOf(detokenizeFields, ['tokens']);
