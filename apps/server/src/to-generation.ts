/** From the fields by which an answer is drawn and ends, which most protocols share, to the engine's request. */
import { ApiError } from './api-error.js';
import { type extensionFields, toSessionChanges } from './ctkvr-fields.js';
import type { Values } from './field-rules.js';
import { defaultSampling, type GenerationRequest } from './generation-request.js';
import type { cachingFields, drawingFields } from './request-fields.js';

/** A window that holds any prompt and answer. */
const WHOLE_SEQUENCE = 1 << 20;

type DrawingValues = Values<typeof drawingFields, never>;
/** Some protocols have no such fields. */
type CachingValues = Values<typeof cachingFields, never>;

/** What each protocol says in its own way. */
interface AskedGeneration extends Pick<GenerationRequest, 'prompt' | 'maxTokens'> {
  /** Default: null. */
  readonly numTopLogprobs?: number | null;
  /** Default: null. */
  readonly json?: GenerationRequest['json'];
  /** Default: null. */
  readonly sessionId?: string | null;
  /** Default: false. */
  readonly readMap?: boolean;
}

/** Fills in the defaults. @throws {ApiError} 400 when both repetition penalties are given. */
export function toGeneration(
  given: DrawingValues & CachingValues & Values<typeof extensionFields, never>,
  { prompt, maxTokens, numTopLogprobs = null, json = null, sessionId = null, readMap = false }: AskedGeneration,
): GenerationRequest {
  return {
    prompt,
    maxTokens,
    temperature: given.temperature ?? defaultSampling.temperature,
    topP: given.top_p ?? defaultSampling.topP,
    topK: Math.max(given.top_k ?? defaultSampling.topK, 0),
    typicalP: given.typical_p ?? defaultSampling.typicalP,
    minP: given.min_p ?? defaultSampling.minP,
    logitBias: given.logit_bias ?? {},
    ...repetition(given),
    frequencyPenalty: given.frequency_penalty ?? defaultSampling.frequencyPenalty,
    presencePenalty: given.presence_penalty ?? defaultSampling.presencePenalty,
    seed: given.seed === undefined ? null : toU32(given.seed),
    stop: given.stop === undefined ? [] : typeof given.stop === 'string' ? [given.stop] : given.stop,
    ignoreEndOfTurn: given.ignore_eos ?? false,
    cacheSalt: given.cache_salt ?? '',
    session: toSessionChanges(given.ctkvr),
    cachePrompt: given.cache_prompt ?? true,
    numTopLogprobs,
    json,
    sessionId,
    owner: '', // known to the exchange
    readMap,
  };
}

/** vLLM's penalty looks at everything, llama.cpp's at the last tokens. */
function repetition(given: DrawingValues): Pick<GenerationRequest, 'repeatPenalty' | 'repeatWindow'> {
  const {
    repetition_penalty: overAll,
    repeat_penalty: overLast,
    repeat_last_n: last = defaultSampling.repeatWindow,
  } = given;
  if (overAll !== undefined && overLast !== undefined) {
    throw new ApiError(
      400,
      "'repeat_penalty' cannot be honoured: it and repetition_penalty are the same over different windows: send one",
      { param: 'repeat_penalty', code: 'invalid_value' },
    );
  }
  if (overAll !== undefined) return { repeatPenalty: overAll, repeatWindow: WHOLE_SEQUENCE };
  return {
    repeatPenalty: overLast ?? defaultSampling.repeatPenalty,
    repeatWindow: last === -1 ? WHOLE_SEQUENCE : last,
  };
}

/** Any integer a client sends becomes a u32, the same one each time: negative and large seeds wrap. */
function toU32(seed: number): number {
  return Number(BigInt.asUintN(32, BigInt(seed)));
}
