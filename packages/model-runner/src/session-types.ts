/** Options, events and results of a session. Types only. */
import type { KvFormat, PresetName, SelectionCounters, SelectorOptions, StepTimings } from '@ctkvr/core';
import type { Grammar, GrammarSource } from './grammar.js';
import type { LogitBias } from './logit-bias.js';
import type { SamplingOptions } from './sampling-options.js';

/** A preset, changed field by field. */
export type SelectorChoice = Partial<SelectorOptions> & { readonly preset?: PresetName };

/** How a session takes part in the model's prefix cache. */
export interface PrefixCacheUse {
  /** Who may begin from what it reads: sessions of the same namespace, KV format and selector. Default ''. */
  readonly namespace?: string | undefined;
  /** Whether it may begin from what others have read. What it reads is kept either way. Default true. */
  readonly lookUp?: boolean | undefined;
}

export interface SessionOptions {
  /** Tokens the session can hold, prompt and answers together. Default: the model's contextLength. Memory is taken as it fills. */
  readonly contextLength?: number | undefined;
  /**
   * How keys and values are stored. Default 'f16'; 'q8' takes 9/16 of the memory, for models whose heads have a multiple of 32 values
   * (docs/decisions/2026-11-27-keys-and-values-in-8-bits.md: what it costs in fidelity). Forks have it too.
   */
  readonly kvFormat?: KvFormat | undefined;
  /** Which keys decode steps read. Default: the preset `balanced`. */
  readonly selector?: SelectorChoice | undefined;
  /**
   * Begins its first prompt from the longest prompt of the model's prefix cache that begins with the same tokens, and keeps what it reads for
   * others; `prefill` tells how many tokens that saved. Answers are the same to the bit whether or not there was such a prompt
   * (docs/decisions/2026-12-02-prefix-cache.md). Default: not at all.
   */
  readonly prefixCache?: PrefixCacheUse | undefined;
}

export interface AdmitOptions extends SessionOptions {
  /** Tokens of the prompt: what must have room before the session begins. */
  readonly promptLength: number;
  readonly signal?: AbortSignal | undefined;
  /** Called when the session has to wait for memory. */
  readonly onWait?: (() => void) | undefined;
}

export interface PrefillProgress {
  /** index = the prompt is stored and the index over it is being built. */
  readonly phase: 'prefill' | 'index';
  readonly tokensDone: number;
  readonly tokensTotal: number;
  /** Mean since the prefill began; 0 while unknown. */
  readonly tokensPerSecond: number;
}

export interface PrefillOptions {
  readonly onProgress?: ((progress: PrefillProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For messages: whether the prompt ends where the model's answer begins. Default true. */
  readonly addGenerationPrompt?: boolean | undefined;
  /**
   * Whether the index is brought up to date afterwards, if the selector has one. Default true. Forks share the index of what they were
   * forked from: false here means that each of them builds one of its own. Build it once, before the first fork.
   */
  readonly buildIndex?: boolean | undefined;
}

export interface IndexReport {
  readonly buildMs: number;
  readonly indexBytes: number;
  readonly indexedTokens: number;
}

export interface PrefillResult {
  /** Tokens this call added to the session. */
  readonly numTokens: number;
  /** Of these, tokens that the prefix cache had stored. */
  readonly numCachedTokens: number;
  /** Wall clock without the index, waiting for other sessions included. */
  readonly prefillMs: number;
  readonly tokensPerSecond: number;
  /** null when no index was built. */
  readonly index: IndexReport | null;
}

export interface GenerateOptions {
  /** Tokens at most. Default: what the context has room for. */
  readonly maxTokens?: number | undefined;
  readonly sampling?: SamplingOptions | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Texts that end the generation; they may span tokens and are never emitted. */
  readonly stop?: string | readonly string[] | undefined;
  /** Generate on when the model ends its turn; its end tokens then are tokens like others. For measurements. Default false. */
  readonly ignoreEndOfTurn?: boolean | undefined;
  /**
   * What the answer is bound to; it ends where that ends. Compiled ones begin sooner. The logits returned are the model's own. Not with
   * `ignoreEndOfTurn`: an answer has to be able to end.
   */
  readonly grammar?: GrammarSource | Grammar | undefined;
  /**
   * Added to the logits of single tokens before penalties and samplers see them: -100 all but forbids a token, 100 all but forces it. With a
   * grammar, among the tokens that it allows. The logits returned are the model's own. Default: none.
   */
  readonly logitBias?: LogitBias | undefined;
  /** Also return the logits each token was drawn from. Default false. */
  readonly logits?: boolean | undefined;
  /** Also measure the true attention mass of each step (reads all keys). Default false. */
  readonly audit?: boolean | undefined;
  /** Also tell where the attention of each step went. Default false. */
  readonly readMap?: boolean | undefined;
}

export interface TokenStatistics {
  /** Wall clock from asking for the token to having it, waiting for other sessions included. */
  readonly msPerToken: number;
  /** What the step read for this session. */
  readonly counters: SelectionCounters | null;
  /** The whole step, other sessions' work included. */
  readonly timings: StepTimings;
  /** Sessions that took part in the step. */
  readonly numSequences: number;
}

export interface GenerateEvent {
  /** The token drawn. When the model ends its turn and held-back text remains, one last event has the end token and that text. */
  readonly tokenId: number;
  /** Whole characters only; empty while a character, or what may become a stop string, is incomplete. */
  readonly text: string;
  readonly statistics: TokenStatistics;
  /** f32 [vocabSize], when asked for. */
  readonly logits: Float32Array | null;
  /**
   * When asked for: f32, one for each passage (`model.passageSize` tokens) of the session: the share of the attention that went to its keys, the
   * mean over layers and query heads. The sum is 1 less what was estimated of keys that were not read. null on a device.
   */
  readonly readMap: Float32Array | null;
}

/** How a generation ended. */
export interface GenerateFinish {
  /** stop = the model ended its turn; length = maxTokens; stopString = one of `stop`; aborted = signal, break, close or an error. */
  readonly reason: 'stop' | 'length' | 'stopString' | 'aborted';
  /** Tokens generated, end tokens not counted. */
  readonly numTokens: number;
  /** The stop string that ended it. */
  readonly stopString: string | null;
  /** With the same options and state, this seed draws the same tokens. */
  readonly seed: number;
  readonly totalMs: number;
}

/** Token ids, or what chooses the next one from the distribution it would be drawn from (f32 [vocabSize]). */
export type ForcedTokens = ArrayLike<number> | ((logits: Float32Array) => number);

export interface ForcedOptions {
  readonly signal?: AbortSignal | undefined;
  /** Tokens to choose, when a function chooses them. Default: what the context has room for. */
  readonly numTokens?: number | undefined;
  readonly audit?: boolean | undefined;
}

/** One step of a forced decode: what the model would have said where `tokenId` was put. */
export interface ForcedStep {
  readonly tokenId: number;
  /** f32 [vocabSize]: the distribution from which `tokenId` would have been drawn. */
  readonly logits: Float32Array;
  readonly statistics: TokenStatistics;
}
