/**
 * Chat requests on a loaded model: one session a request, opened when memory has room for its prompt and closed whatever happens. Sessions
 * that run at the same time share engine steps through the model's step composer.
 */
import { randomInt } from 'node:crypto';
import { CtkvrError, type KvFormat, type PresetName, type SelectionCounters, type SelectorOptions } from '@ctkvr/core';
import type { Grammar, Model, Session } from '@ctkvr/model-runner';
import { AnswerLogprobs } from './answer-logprobs.js';
import { toApiError, toPrepareError } from './api-error.js';
import type { ChatEngine, ChatEvent, ChatFinish, EngineMemory, PreparedChat } from './chat-engine.js';
import { changedSession } from './ctkvr-fields.js';
import type { GenerationRequest } from './generation-request.js';
import { ModelText } from './model-text.js';
import { type AnswerPlan, planAnswer } from './tools/answer-plan.js';
import { readAnswer } from './tools/read-answer.js';

export interface SessionChatEngineOptions {
  readonly model: Model;
  readonly modelId: string;
  /** Tokens of prompt and answer together; at most what the model was loaded for. */
  readonly contextLength: number;
  readonly kvFormat?: KvFormat | undefined;
  readonly selector?: (Partial<SelectorOptions> & { readonly preset?: PresetName }) | undefined;
}

export class SessionChatEngine implements ChatEngine {
  readonly modelId: string;
  readonly createdAt = Math.floor(Date.now() / 1000);
  readonly contextLength: number;
  readonly text: ModelText;
  readonly #model: Model;
  readonly #session: Pick<SessionChatEngineOptions, 'kvFormat' | 'selector'>;

  constructor(options: SessionChatEngineOptions) {
    this.modelId = options.modelId;
    this.contextLength = options.contextLength;
    this.#model = options.model;
    this.text = new ModelText(options.model);
    this.#session = { kvFormat: options.kvFormat, selector: options.selector };
  }

  get failure(): string | null {
    return this.#model.failure === null ? null : toApiError(this.#model.failure).code;
  }

  async memory(): Promise<EngineMemory> {
    return this.#model.sessionMemory;
  }

  async prepare(request: GenerationRequest, signal: AbortSignal): Promise<PreparedChat> {
    const tokens = await this.text.tokensOf(request.prompt, signal, this.contextLength).catch((error) => {
      signal.throwIfAborted(); // its reason says more than that it was aborted
      throw error;
    });
    signal.throwIfAborted();
    const maxTokens = this.#maxTokens(tokens.length, request);
    const plan = this.#plan(request, tokens);
    const grammar = await this.#compile(plan);
    return {
      numPromptTokens: tokens.length,
      run: (running) => {
        const events = this.#run(tokens, { request, maxTokens, grammar, tags: plan.tags, signal: running });
        return plan.newParser === null ? events : readAnswer(events, plan.newParser());
      },
    };
  }

  async *#run(tokens: Int32Array, run: ChatRun): AsyncGenerator<ChatEvent, void, undefined> {
    const { request, maxTokens, signal } = run;
    let isWaiting = false;
    const opening = this.#model.admitSession({
      contextLength: tokens.length + maxTokens,
      promptLength: tokens.length,
      signal,
      onWait: () => {
        isWaiting = true;
      },
      prefixCache: { namespace: request.cacheSalt, lookUp: request.cachePrompt },
      ...changedSession(this.#session, request.session),
    });
    try {
      if (isWaiting) yield { type: 'waiting' };
      yield* this.#answer(await opening, tokens, run);
    } finally {
      await opening.then(
        (session) => session.close(),
        () => {}, // told above, or nobody listens any more
      );
    }
  }

  async *#answer(
    session: Session,
    tokens: Int32Array,
    { request, maxTokens, grammar, tags, signal }: ChatRun,
  ): AsyncGenerator<ChatEvent, void, undefined> {
    yield { type: 'opened' };
    const { numQueryHeads, numKvHeads } = this.#model.info;
    const clock = new TokenClock(numQueryHeads / numKvHeads);
    const { numCachedTokens } = await session.prefill(tokens, { signal });
    const { numTopLogprobs } = request;
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
      grammar,
      stop: request.stop,
      ignoreEndOfTurn: request.ignoreEndOfTurn,
      logits: logprobs !== null,
      sampling: {
        ...toSampling(request),
        penaltyWindow: Math.min(request.repeatWindow, this.contextLength), // it is allocated
      },
    })) {
      const event = { ...drawn, text: (tags.get(drawn.tokenId) ?? '') + drawn.text };
      clock.tick(event.statistics.counters);
      if (logprobs !== null) yield* await logprobs.push(event);
      else if (event.text !== '') yield { type: 'text', text: event.text };
    }
    const finish = toFinish(session, clock);
    if (logprobs !== null) yield* logprobs.end(finish.numCompletionTokens);
    yield { type: 'finish', finish: { ...finish, numCachedTokens } };
  }

  #plan(request: GenerationRequest, tokens: Int32Array): AnswerPlan {
    const promptEnd = this.#model.detokenize(tokens.slice(-TAG_TOKENS), { special: true });
    const { controlTokens } = this.#model.info;
    return planAnswer({ request, template: this.text.chatTemplate ?? '', promptEnd, controlTokens });
  }

  /** @throws {ApiError} 400 naming the field whose schema is not supported. */
  async #compile({ grammar }: AnswerPlan): Promise<Grammar | undefined> {
    if (grammar === null) return undefined;
    return await this.#model.compileGrammar(grammar.source).catch((error: unknown) => {
      throw toPrepareError(error, grammar.field);
    });
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

interface ChatRun {
  readonly request: GenerationRequest;
  readonly maxTokens: number;
  readonly grammar: Grammar | undefined;
  readonly tags: AnswerPlan['tags'];
  readonly signal: AbortSignal;
}

/** At the end of a prompt: in these is a tag with what may stand behind it. */
const TAG_TOKENS = 12;

function toSampling(request: GenerationRequest) {
  return {
    temperature: request.temperature,
    topP: request.topP,
    topK: request.topK,
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

type Counters = Pick<SelectionCounters, 'heads' | 'keysTotal' | 'keysRead' | 'estimatedMass'>;

/** Times tokens as they come; made when the prefill starts. */
class TokenClock {
  readonly #startedAt = performance.now();
  readonly #groupSize: number;
  #firstAt: number | null = null;
  #lastAt = 0;
  #numTokens = 0;
  #counters: Counters | null = null;

  constructor(groupSize: number) {
    this.#groupSize = groupSize;
  }

  tick(counters: Counters | null): void {
    this.#lastAt = performance.now();
    this.#firstAt ??= this.#lastAt;
    this.#numTokens += 1;
    this.#counters = counters ?? this.#counters;
  }

  statistics(): ChatFinish['statistics'] {
    const perHead = (sum: number | undefined) =>
      sum === undefined || !this.#counters?.heads ? null : Math.round(sum / this.#counters.heads);
    const decoded = this.#numTokens - 1;
    return {
      time_to_first_token_ms: this.#firstAt === null ? null : round(this.#firstAt - this.#startedAt),
      ms_per_token: this.#firstAt === null || decoded < 1 ? null : round((this.#lastAt - this.#firstAt) / decoded),
      keys_read_per_head: perHead(this.#counters?.keysRead),
      keys_per_head: perHead(this.#counters?.keysTotal),
      attention_mass: this.#attentionMass(),
    };
  }

  #attentionMass(): number | null {
    if (!this.#counters?.heads) return null;
    const { estimatedMass, heads } = this.#counters;
    return Math.round((estimatedMass / (heads * this.#groupSize)) * 10_000) / 10_000;
  }
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}
