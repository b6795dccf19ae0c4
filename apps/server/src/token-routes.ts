/**
 * POST /tokenize, /detokenize and /apply-template: what the model's tokenizer and chat template make of a text, without running the model.
 * Bodies and answers are those of llama.cpp's server.
 */
import type { Context, Hono } from 'hono';
import { toPrepareError } from './api-error.js';
import type { EngineText } from './chat-engine.js';
import { parseChatRequest } from './chat-request.js';
import { checkBody } from './check-fields.js';
import { mustBe } from './invalid-value.js';
import { readJson } from './read-json.js';
import type { ServedModels } from './served-models.js';
import { detokenizeFields, detokenizeSchema, tokenizeFields, tokenizeSchema } from './token-fields.js';

/** Tokens between two looks at other requests: the bytes of one take about a microsecond, and their way from another process as long. */
const TOKENS_AT_ONCE = 500;

/** A token with its text; bytes where they are no UTF-8 by themselves. */
interface Piece {
  readonly id: number;
  readonly piece: string | number[];
}

export function addTokenRoutes(
  app: Hono,
  { models, maxBodyBytes }: { models: ServedModels; maxBodyBytes: number },
): void {
  const read = (context: Context) => readJson(context, maxBodyBytes);

  app.post('/tokenize', async (context) => {
    const given = checkBody(await read(context), tokenizeFields, tokenizeSchema);
    const { text } = models.find(given.model);
    const { add_special: addSpecial = false, parse_special: parseSpecial = true, with_pieces: withPieces } = given;
    const tokens = await text.tokenize(given.content, { addSpecial, parseSpecial });
    return context.json({ tokens: withPieces ? await piecesOf(tokens, text) : Array.from(tokens) });
  });

  app.post('/detokenize', async (context) => {
    const given = checkBody(await read(context), detokenizeFields, detokenizeSchema);
    const { text } = models.find(given.model);
    checkTokens(given.tokens, (await text.facts()).vocabSize);
    return context.json({ content: Buffer.concat(await bytesOf(given.tokens, text)).toString('utf8') });
  });

  app.post('/apply-template', async (context) => {
    const json = await read(context);
    const { model, generation } = parseChatRequest(isObject(json) ? { model: models.first.modelId, ...json } : json);
    const { text } = models.find(model);
    if (generation.sessionId !== null) {
      throw mustBe('session', 'left out: a document is not shown', generation.sessionId);
    }
    if (generation.prompt.type !== 'messages') throw new Error('a chat request has messages');
    const prompt = text.applyTemplate(generation.prompt, context.req.raw.signal).catch((error: unknown) => {
      throw toPrepareError(error, 'messages');
    });
    return context.json({ prompt: await prompt });
  });
}

function checkTokens(tokens: readonly number[], vocabSize: number): void {
  const index = tokens.findIndex((tokenId) => tokenId >= vocabSize);
  if (index >= 0) throw mustBe(`tokens[${index}]`, `a token of this model, from 0 to ${vocabSize - 1}`, tokens[index]);
}

async function piecesOf(tokens: Int32Array, text: EngineText): Promise<Piece[]> {
  const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return (await bytesOf(Array.from(tokens), text)).map((bytes, index) => {
    const id = tokens[index]!;
    try {
      return { id, piece: strict.decode(bytes) };
    } catch {
      return { id, piece: Array.from(bytes) };
    }
  });
}

async function bytesOf(tokens: readonly number[], text: EngineText): Promise<Uint8Array[]> {
  const bytes: Uint8Array[] = [];
  for (let start = 0; start < tokens.length; start += TOKENS_AT_ONCE) {
    bytes.push(...(await text.bytesOf(tokens.slice(start, start + TOKENS_AT_ONCE))));
  }
  return bytes;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
