/**
 * What a suite can ask of an engine. Each contender runs in a child process of its own: two builds of ggml never meet in one process,
 * neither shares the other's threads, heap or garbage collector, and the peak memory of each can be told. Both are treated alike, so
 * that a message more or less costs both the same; times are taken inside the child, around the engine's own public calls.
 */
export interface Contender {
  /** Loads the model. Called once, first. */
  open(options: OpenOptions): Promise<void>;
  /** Changes settings; what was prefilled stays available to `decode`, unless the settings have never been prefilled with. */
  configure(settings: ContenderSettings): Promise<void>;
  /** Prefills an empty sequence with `tokens` and draws one more. Returns milliseconds from the call to that token. */
  prefill(tokens: Int32Array): Promise<PrefillSample>;
  /** Decodes greedily from what was last prefilled under these settings, and forgets what it decoded. */
  decode(numTokens: number): Promise<DecodeSample>;
  /** Peak resident set of this process, bytes. */
  peakMemory(): Promise<number>;
}

/** What only ours is asked: it tokenizes for everyone, and tells what its speed costs. */
export interface ReferenceContender extends Contender {
  tokenize(text: string): Promise<Int32Array>;
  /** Feeds `tokens` one by one after what was last prefilled, dense and with the selector in use, and compares what comes next. */
  quality(tokens: Int32Array): Promise<QualitySample>;
}

export interface OpenOptions {
  readonly modelPath: string;
  /** Tokens a sequence must be able to hold. */
  readonly contextLength: number;
}

/** Fields that a contender does not have are ignored by it. */
export interface ContenderSettings {
  /** Threads of the peer's context; ours runs on its own default. */
  readonly threads?: number;
  /** The peer's flash attention. */
  readonly flashAttention?: boolean;
  /** Our selector. */
  readonly selector?: 'full' | 'ctkvr';
  /** Our selector's own option: shorter sequences decode densely. Default: the preset's. */
  readonly denseBelow?: number | undefined;
}

export interface PrefillSample {
  readonly firstTokenMs: number;
  readonly threads: number;
}

export interface DecodeSample {
  /** Milliseconds between consecutive tokens; the first token's wait is not in it. */
  readonly msPerToken: readonly number[];
  readonly threads: number;
  /** Bytes of keys, values and index read by a step (median); null when the engine does not tell. */
  readonly attentionBytes: number | null;
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
