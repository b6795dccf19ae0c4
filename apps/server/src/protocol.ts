/**
 * What one protocol is to the rest of the server: it turns a body into a request for the engine, and the engine's events into the protocol's
 * objects. It neither runs nor waits; exchange.ts does, for all of them.
 */
import type { ApiError } from './api-error.js';
import type { ChatFinish, ScoredToken } from './chat-engine.js';
import type { Frame } from './event-stream.js';
import type { GenerationRequest } from './generation-request.js';
import type { ReadMap } from './read-map.js';
import type { AnswerCall } from './tools/tool-use.js';

export interface ParsedRequest {
  readonly model: string;
  readonly stream: boolean;
  readonly generation: GenerationRequest;
  /** Answers to the prompt. Default 1. */
  readonly numChoices?: number;
}

/** What every object of one answer repeats. */
export interface AnswerHead {
  /** One for all objects of an answer. */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

export interface Answer {
  readonly text: string;
  readonly thinking: string;
  readonly calls: readonly AnswerCall[];
  /** All of the answer, thoughts and calls too, when the request asked for their log probabilities. */
  readonly tokens: readonly ScoredToken[];
  /** Those of the text alone. */
  readonly textTokens: readonly ScoredToken[];
  readonly finish: ChatFinish;
  readonly numPromptTokens: number;
}

export interface Protocol<R extends ParsedRequest> {
  /** What ids of answers begin with. */
  readonly idPrefix: string;
  /** The field that is at fault when the prompt is. */
  readonly promptField: string;
  /** @throws {ApiError} 400 naming the first field that is wrong. */
  parse(json: unknown): R;
  whole(request: R, head: AnswerHead, answer: Answer): object;
  stream(request: R, head: AnswerHead, numPromptTokens: number): StreamedAnswer;
}

/** The frames of one streamed answer, in this order; `failed` ends it anywhere. */
export interface StreamedAnswer {
  opened(): readonly Frame[];
  /** `readMap` is left out unless the request asked for it. */
  text(text: string, tokens: readonly ScoredToken[], readMap?: ReadMap | null): readonly Frame[];
  /** Protocols without messages have no thoughts and no calls. */
  thinking?(text: string, tokens: readonly ScoredToken[]): readonly Frame[];
  toolCall?(call: AnswerCall, tokens: readonly ScoredToken[]): readonly Frame[];
  finished(finish: ChatFinish): readonly Frame[];
  failed(error: ApiError): readonly Frame[];
}
