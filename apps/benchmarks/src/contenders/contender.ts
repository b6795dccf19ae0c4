import type { KvFormat } from '@ctkvr/core';

/**
 * What a suite can ask of an engine. Each contender runs in a child process of its own: one process never loads two builds of ggml,
 * neither shares the other's threads, heap or garbage collector, and the peak memory of each can be told. Both are treated alike, so
 * that messages cost both the same; times are taken inside the child, around the engine's own public calls.
 */
export interface Contender {
  /** Loads the model. Called once, first. */
  open(options: OpenOptions): Promise<OpenSample>;
  /** Changes settings; what was prefilled stays available to the decodes, unless the settings have never been prefilled with. */
  configure(settings: ContenderSettings): Promise<void>;
  /** Prefills the empty sequence of this number (default 0) and draws one more token. Returns milliseconds from the call to that token. */
  prefill(tokens: Int32Array, sequence?: number): Promise<PrefillSample>;
  /** Decodes greedily from what sequence 0 was last prefilled with under these settings, and forgets what it decoded. */
  decode(numTokens: number): Promise<DecodeSample>;
  /**
   * The same from the first `numSequences` sequences at once, `numTokens` each. One that was never prefilled starts from what sequence 0 was
   * prefilled with, in cells of its own.
   */
  decodeTogether(numTokens: number, numSequences: number): Promise<TogetherSample>;
  /**
   * Decodes from sequence 0: first `numTokens` alone, then while `prompt` is prefilled in a sequence of its own, as far as the context has
   * room and then again from where it began. Forgets all of it.
   */
  decodeBesidePrefill(numTokens: number, prompt: Int32Array): Promise<BesideSample>;
  /** Peak resident set of this process, bytes. */
  peakMemory(): Promise<number>;
}

/** Our engine also tokenizes for every contender, and measures the quality of its answers. */
export interface ReferenceContender extends Contender {
  tokenize(text: string): Promise<Int32Array>;
  /** Feeds `tokens` one by one behind a prefilled sequence (default 0), dense and with the selector in use, and compares what comes next. */
  quality(tokens: Int32Array, sequence?: number): Promise<QualitySample>;
}

export interface OpenOptions {
  readonly modelPath: string;
  /** Tokens a sequence must be able to hold. */
  readonly contextLength: number;
}

export interface OpenSample {
  /** From the call to a model that is ready. */
  readonly loadMs: number;
}

/** Fields that a contender does not have are ignored by it. */
export interface ContenderSettings {
  /** Threads of the peer's context; ours runs on its own default. */
  readonly threads?: number;
  /** The peer's flash attention. */
  readonly flashAttention?: boolean;
  /** Sequences that the peer's context has room for (default 1); what was prefilled with another number is lost. Ours need no number. */
  readonly sequences?: number;
  /** Tokens that the peer puts into one step at most. Default: its own. */
  readonly batchSize?: number;
  /** Our retrieval method. */
  readonly method?: 'full' | 'ctkvr';
  /** Option of our method: shorter sequences decode densely. Default: the preset's. */
  readonly denseBelow?: number | undefined;
  /** How our next prefill stores keys and values, and with it what decodes from it. Default 'f16'. */
  readonly kvFormat?: KvFormat;
}

export interface PrefillSample {
  readonly firstTokenMs: number;
  readonly threads: number;
}

export interface DecodeSample {
  /** Milliseconds between consecutive tokens; the first token's wait is not in it. */
  readonly msPerToken: readonly number[];
  readonly threads: number;
  /** Bytes of keys, values and index read for a token (median); null when the engine does not tell. */
  readonly attentionBytes: number | null;
}

export interface TogetherSample {
  /** Of all sequences, the first token of each not counted. */
  readonly numTokens: number;
  /** From the moment that each has its first token to that when each has its last. */
  readonly totalMs: number;
  readonly threads: number;
  /** Bytes of keys, values and index read for one token of one sequence (median); null when the engine does not tell. */
  readonly attentionBytes: number | null;
}

export interface BesideSample {
  /** Milliseconds between consecutive tokens of the running sequence, alone. */
  readonly aloneMs: readonly number[];
  /** The same from the start of the other's prefill to the first token after its end. */
  readonly besideMs: readonly number[];
  /** From the call to its end, its index included. */
  readonly prefillMs: number;
  readonly threads: number;
}

export interface QualitySample {
  /** KL divergence of the next-token distributions, dense to selector, mean over the steps, nats. */
  readonly meanKl: number;
  /** Share of steps whose most likely token is the same. */
  readonly top1Agreement: number;
  readonly numSteps: number;
}

/** Which engine a child process runs. */
export type ContenderKind = 'ctkvr' | 'node-llama-cpp';
