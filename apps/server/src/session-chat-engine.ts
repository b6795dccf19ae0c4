/**
 * Chat requests on a loaded model: one session a request, opened when memory has room for its prompt and closed whatever happens. Sessions
 * that run at the same time share engine steps through the model's step composer.
 */
import { randomInt } from 'node:crypto';
import { CtkvrError, type KvFormat, type PresetName, type SelectorOptions } from '@ctkvr/core';
import type { Model, Session } from '@ctkvr/model-runner';
import type { AnswerInput, PlannedAnswer } from './answer-input.js';
import { AnswerLogprobs } from './answer-logprobs.js';
import { AnswerReadMaps } from './answer-read-maps.js';
import { toApiError, toPrepareError } from './api-error.js';
import type { ChatEngine, ChatEvent, ChatFinish, EngineMemory, PreparedChat } from './chat-engine.js';
import { changedSession } from './ctkvr-fields.js';
import type { GenerationRequest } from './generation-request.js';
import { ModelText } from './model-text.js';
import type { ModelSessions } from './sessions/model-sessions.js';
import { prepareSessionChat } from './sessions/session-chat.js';
import { TokenClock } from './token-clock.js';
import { planAnswer } from './tools/answer-plan.js';
import { readAnswer } from './tools/read-answer.js';

export interface SessionChatEngineOptions {
  readonly model: Model;
  readonly modelId: string;
  /** Tokens of prompt and answer together; at most what the model was loaded for. */
  readonly contextLength: number;
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: (Partial<SelectorOptions> & { readonly preset?: PresetName }) | undefined;
  /** Of the same model. They are the caller's to close. */
  readonly sessions?: ModelSessions;
}

export class SessionChatEngine implements ChatEngine {
  readonly modelId: string;
  readonly createdAt = Math.floor(Date.now() / 1000);
  readonly contextLength: number;
  readonly text: ModelText;
  readonly sessions?: ModelSessions;
  readonly #model: Model;
  readonly #session: Pick<SessionChatEngineOptions, 'kvFormat' | 'selector'>;

  constructor(options: SessionChatEngineOptions) {
    this.modelId = options.modelId;
    this.contextLength = options.contextLength;
    this.#model = options.model;
    this.text = new ModelText(options.model);
    this.#session = { kvFormat: options.kvFormat, selector: options.selector };
    if (options.sessions !== undefined) this.sessions = options.sessions;
  }

  get failure(): string | null {
    return this.#model.failure === null ? null : toApiError(this.#model.failure).code;
  }

  async memory(): Promise<EngineMemory> {
    return this.#model.sessionMemory;
  }

  async prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedChat> {
    if (request.sessionId !== null) {
      return await prepareSessionChat(request, signal, {
        sessions: this.sessions,
        text: this.text,
        plan: (tokens) => this.#plan(request, tokens),
        newClock: () => this.#newClock(),
        answerFrom: (session, input) => this.#answerFrom(session, input),
      });
    }
    const tokens = await this.text.tokensOf(request.prompt, signal, this.contextLength).catch((error) => {
      signal.throwIfAborted(); // its reason says more than that it was aborted
      throw error;
    });
    signal.throwIfAborted();
    const maxTokens = this.#maxTokens(tokens.length, request);
    const planned = await this.#plan(request, tokens);
    return {
      numPromptTokens: tokens.length,
      run: (running) => readAnswer(this.#run(tokens, { request, maxTokens, planned, signal: running }), planned),
    };
  }

  async *#run(tokens: Int32Array, chat: ChatRun): AsyncGenerator<ChatEvent, void, undefined> {
    const { request, maxTokens, signal } = chat;
    let isWaiting = false;
    let isOpen = false;
    const opening = this.#model.admitSession({
      contextLength: tokens.length + maxTokens,
      promptLength: tokens.length,
      signal,
      onWait: () => {
        isWaiting = true;
        void this.#makeRoom(() => !isOpen && !signal.aborted);
      },
      prefixCache: { namespace: request.cacheSalt, lookUp: request.cachePrompt },
      ...changedSession(this.#session, request.session),
    });
    try {
      if (isWaiting) yield { type: 'waiting' };
      const session = await opening.finally(() => {
        isOpen = true;
      });
      yield { type: 'opened' };
      const clock = this.#newClock();
      const { numCachedTokens } = await session.prefill(tokens, { signal });
      yield* this.#answerFrom(session, { ...chat, clock, numCachedTokens });
    } finally {
      await opening.then(
        (session) => session.close(),
        () => {}, // told above, or nobody listens any more
      );
    }
  }

  /** Generates the answer of a session that holds the prompt. */
  async *#answerFrom(session: Session, input: AnswerInput): AsyncGenerator<ChatEvent, void, undefined> {
    const { request, planned, maxTokens, signal, clock, numCachedTokens } = input;
    const { numTopLogprobs } = request;
    const maps = request.readMap ? new AnswerReadMaps() : null;
    const logprobs =
      numTopLogprobs === null
        ? null
        : new AnswerLogprobs({
            numTop: numTopLogprobs,
            tokenBytes: (tokenId) => this.text.tokenBytes(tokenId),
            endTokens: new Set(request.ignoreEndOfTurn ? [] : this.#model.info.endOfGenerationTokenIds),
          });
    for await (const drawn of session.generate({
      maxTokens,
      signal,
      grammar: planned.grammar,
      logitBias: request.logitBias,
      stop: request.stop,
      ignoreEndOfTurn: request.ignoreEndOfTurn,
      logits: logprobs !== null,
      readMap: maps !== null,
      sampling: {
        ...toSampling(request),
        penaltyWindow: Math.min(request.repeatWindow, this.contextLength), // it is allocated
      },
    })) {
      const event = { ...drawn, text: (planned.tags.get(drawn.tokenId) ?? '') + drawn.text };
      clock.tick(event.statistics);
      const events = logprobs === null ? textEvents(event.text) : await logprobs.push(event);
      // With log probabilities, what is told now is of the tokens before.
      if (logprobs === null) maps?.add(event.readMap);
      yield* maps === null ? events : events.map((one) => maps.tell(one));
      if (logprobs !== null) maps?.add(event.readMap);
    }
    const finish = toFinish(session, clock);
    const events = logprobs?.end(finish.numCompletionTokens) ?? [];
    yield* maps === null ? events : events.map((one) => maps.tell(one));
    yield { type: 'finish', finish: { ...finish, numCachedTokens, ...maps?.ofAnswer() } };
  }

  /** @throws {ApiError} 400 naming the field whose schema is not supported, or `logit_bias` with a token that the model does not have. */
  async #plan(request: GenerationRequest, tokens: Int32Array): Promise<PlannedAnswer> {
    this.#checkTokens(Object.keys(request.logitBias));
    const promptEnd = this.#model.detokenize(tokens.slice(-TAG_TOKENS), { special: true });
    const { controlTokens } = this.#model.info;
    const template = this.text.chatTemplate ?? '';
    const { grammar, tags, newParser } = planAnswer({ request, template, promptEnd, controlTokens });
    if (grammar === null) return { grammar: undefined, tags, newParser };
    const compiled = await this.#model.compileGrammar(grammar.source).catch((error: unknown) => {
      throw toPrepareError(error, grammar.field);
    });
    return { grammar: compiled, tags, newParser };
  }

  #checkTokens(biased: readonly string[]): void {
    try {
      for (const token of biased) this.text.tokenBytes(Number(token));
    } catch (error) {
      throw toPrepareError(error, 'logit_bias');
    }
  }

  #newClock(): TokenClock {
    const { numQueryHeads, numKvHeads } = this.#model.info;
    return new TokenClock(numQueryHeads / numKvHeads);
  }

  /** Documents that nobody asks make way for a request that waits for memory. */
  async #makeRoom(isNeeded: () => boolean): Promise<void> {
    while (isNeeded() && (await this.sessions?.makeRoom()));
  }

  /** Tokens the answer may have: those asked for, or as many of them as context and memory hold. @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED */
  #maxTokens(numPromptTokens: number, { maxTokens: asked, session }: GenerationRequest): number {
    const room = this.contextLength - numPromptTokens;
    const longest = this.#model.longestContext(changedSession(this.#session, session)); // of one that has all the memory
    const inMemory = Math.max(1, longest - numPromptTokens); // a prompt that is too long is refused when it asks for memory
    if (room >= 1) return Math.min(asked ?? room, room, inMemory);
    throw new CtkvrError(
      'CTKVR_CONTEXT_EXCEEDED',
      `This server's context holds ${this.contextLength} tokens, and the prompt has ${numPromptTokens}: no room for an answer. Shorten it.`,
      { fields: { contextLength: this.contextLength, promptTokens: numPromptTokens } },
    );
  }
}

type ChatRun = Omit<AnswerInput, 'clock' | 'numCachedTokens'>;

/** At the end of a prompt: in these is a tag with what may stand behind it. */
const TAG_TOKENS = 12;

function textEvents(text: string): ChatEvent[] {
  return text === '' ? [] : [{ type: 'text', text }];
}

function toSampling(request: GenerationRequest) {
  return {
    temperature: request.temperature,
    topP: request.topP,
    topK: request.topK,
    typicalP: request.typicalP,
    minP: request.minP,
    repeatPenalty: request.repeatPenalty,
    frequencyPenalty: request.frequencyPenalty,
    presencePenalty: request.presencePenalty,
    seed: request.seed ?? randomInt(2 ** 32),
  };
}

function toFinish(session: Session, clock: TokenClock): Omit<ChatFinish, 'numCachedTokens'> {
  const last = session.lastFinish;
  if (last === null || last.reason === 'aborted') throw new CtkvrError('CTKVR_ABORTED', 'The request was cancelled.');
  return {
    reason: last.reason === 'length' ? 'length' : 'stop',
    stopString: last.stopString,
    numCompletionTokens: last.numTokens,
    statistics: clock.statistics(),
  };
}
