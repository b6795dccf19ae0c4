/**
 * The one typed seam of the native binary (rust-kernels/crates/ctkvr-napi). Everything that crosses is plain data or a typed array.
 * Native errors arrive as Error with `message` = JSON { code, message, fields } and are mapped in errors.ts only.
 */
import type { KvFormat, SelectionCounters, SelectorOptions, SequenceMemory, StepTimings } from '@ctkvr/core';

export interface NativeBinding {
  /** Version of the crate, instruction sets compiled in, and the one chosen at run time. */
  buildInfo(): NativeBuildInfo;
  /** Opens, checks and maps a GGUF file off the JavaScript thread. Nothing is loaded but the header and the vocabulary. */
  inspectModel(path: string): Promise<NativeModelInfo>;
  /** Loads weights off the JavaScript thread. `onProgress` receives 0..1. */
  loadModel(path: string, options: NativeLoadOptions, onProgress?: (fraction: number) => void): Promise<NativeModel>;
  /** Every kernel table of this architecture, the plainest first. */
  kernelTables(): readonly NativeKernelTable[];
  /**
   * Runs the self-test of a table, milliseconds on this thread: returns what it computes wrongly, or null. Instructions that this machine
   * claims to have and has not end the process.
   */
  testKernels(name: string): string | null;
  /** From now on this process, all its threads, uses these tables only, and the scalar one. What exists already keeps its table. */
  allowKernels(names: readonly string[]): void;
  /** What `allowKernels` was last given in this process; null before. */
  allowedKernels(): string[] | null;
  /** The table that is used where none is named. @throws {CtkvrError} CTKVR_INVALID_OPTION when CTKVR_ISA names none that may be used. */
  fastestKernels(): string;
  /** Resident set size of this process now and at its peak, bytes. */
  processMemory(): { rssBytes: number; peakRssBytes: number };
  CentroidIndex: NativeCentroidIndexConstructor;
  RotaryEmbedding: NativeRotaryEmbeddingConstructor;
  /** Cosines of rotated queries by distance, on a worker thread: leave the arrays unchanged until it settles. */
  cosineByDistance(input: NativeCosineInput): Promise<NativeCosineByDistance>;
  /** Overlap of top-k key sets against the similarity of queries, on a worker thread: leave the arrays unchanged until it settles. */
  overlapBySimilarity(input: NativeOverlapInput): Promise<NativeOverlapBySimilarity>;
}

export interface NativeKernelTable {
  /** 'scalar' | 'avx2' | 'avx512' | 'avx512vnni' | 'avx512bf16' | 'amx' | 'neon'. */
  readonly name: string;
  /** What this machine lacks for it; empty when it has the table. */
  readonly missing: readonly string[];
}

export interface NativeBuildInfo {
  readonly version: string;
  /** Chosen kernels of ctkvr-core: 'scalar' | 'avx2' | 'avx512' | 'avx512vnni' | 'avx512bf16' | 'amx' | 'neon'. */
  readonly isa: string;
  /** Kernels of ctkvr-core this process may use, the plainest first; `isa` is the last. */
  readonly availableIsas: readonly string[];
  /** CPU features that ggml reports for its own kernels. */
  readonly ggmlFeatures: readonly string[];
  /** Threads this process may really run at once: cores, affinity and cgroup quota counted. */
  readonly numUsableThreads: number;
  /** Bytes this process may still allocate: free memory and cgroup limit counted. */
  readonly availableMemoryBytes: number;
}

export interface NativeModelInfo {
  readonly path: string;
  readonly name: string | null;
  readonly architecture: string;
  /** null when supported, else the reason. */
  readonly unsupportedReason: string | null;
  readonly sizeBytes: number;
  readonly numParameters: number;
  readonly quantisation: string;
  readonly numLayers: number;
  readonly numQueryHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly embeddingLength: number;
  readonly vocabSize: number;
  /** Longest context the model was trained for. */
  readonly trainedContext: number;
  readonly ropeFreqBase: number;
  /** 'none' | 'linear' | 'yarn' | 'llama3' ... as the GGUF says. */
  readonly ropeScaling: string;
  /** Bytes of f16 keys and values of one token, all layers. */
  readonly kvBytesPerToken: number;
  /** The GGUF's Jinja chat template. */
  readonly chatTemplate: string | null;
  readonly bosTokenId: number | null;
  /** Whether a prompt begins with the BOS token (tokenizer.ggml.add_bos_token). */
  readonly addBos: boolean;
  readonly eosTokenId: number | null;
  /** Every token that ends a turn (EOS, EOT, EOM). */
  readonly endOfGenerationTokenIds: readonly number[];
  /** Text of every control token (such as <|im_start|>), longest first: only these are interpreted, and only in templates. */
  readonly controlTokens: readonly { readonly text: string; readonly tokenId: number }[];
}

export interface NativeLoadOptions {
  /** Threads of the engine; 0 = numUsableThreads. */
  readonly numThreads: number;
  /** Tokens of prefill that go through the layers at once. Default 512. */
  readonly prefillChunk?: number;
  readonly ropeFreqBase?: number;
  readonly ropeFreqScale?: number;
  /** Names one of `availableIsas`. Default: the last. */
  readonly isa?: string;
  /** Use weights in place, from the file, where no faster order of them is known: processes share them. Default false: copies in huge pages. */
  readonly mapWeights?: boolean;
  /** The most bytes that keys and values of all sequences may take; a step that needs more rejects with CTKVR_OUT_OF_MEMORY. Default: no limit. */
  readonly kvBudgetBytes?: number;
}

export interface NativeModel {
  readonly info: NativeModelInfo;
  readonly numThreads: number;
  /** Tokenizes off the JavaScript thread. With parseSpecial false, control tokens in the text stay plain text. Adds no BOS. */
  tokenize(text: string, parseSpecial: boolean): Promise<Int32Array>;
  /** Bytes of one token, for streaming (may end inside a character). Control tokens give their text only if `special`. */
  tokenBytes(tokenId: number, special: boolean): Uint8Array;
  /** Creates an empty sequence. `maxTokens` bounds it; KV pages are allocated as it grows. */
  createSequence(options: NativeSequenceOptions): NativeSequence;
  /**
   * Makes a sequence of a file that `NativeSequence.save` wrote, off the JavaScript thread: it goes on as if it had never been saved. Like a step,
   * one at a time. Rejects with CTKVR_BAD_SNAPSHOT (fields path, field, expected, actual) for a file that is damaged, of another version, or of
   * another model, which are both named; CTKVR_FILE_NOT_FOUND, CTKVR_FILE_UNREADABLE, CTKVR_OUT_OF_MEMORY, CTKVR_BUSY.
   */
  restoreSequence(path: string): Promise<NativeRestoredSequence>;
  /** Runs one step over several sequences off the JavaScript thread. One at a time: a second call while one runs is CTKVR_BUSY. */
  step(plan: readonly NativeStepEntry[], options: NativeStepOptions): Promise<NativeStepResult>;
  /** What keys and values of all sequences take now. */
  kvUsage(): NativeKvUsage;
  /** Stops the running step or index build between two layers or work items; it rejects with CTKVR_ABORTED, sequences as before it. */
  cancel(): void;
  /** Frees weights and all sequences. Idempotent; waits for a running step. */
  close(): Promise<void>;
}

/** KV pages of all sequences of a model. A page counts once, whoever shares it. */
export interface NativeKvUsage {
  readonly pages: number;
  readonly bytes: number;
  /** Pages that more than one sequence holds. */
  readonly sharedPages: number;
  /** null: no limit. */
  readonly budgetBytes: number | null;
}

export interface NativeSequenceOptions {
  readonly maxTokens: number;
  /** Default 'f16'. q8 takes heads of a multiple of 32 values. */
  readonly kvFormat?: KvFormat;
  readonly selector: SelectorOptions;
}

/** What an index build, or a part of one, made. */
export interface NativeBuildReport {
  /** Of this call. */
  readonly buildMs: number;
  /** (layer, KV head) pairs that are not built yet. */
  readonly headsLeft: number;
  readonly indexBytes: number;
  readonly indexedTokens: number;
}

export interface NativeSequence {
  readonly id: number;
  /** Tokens whose keys and values are stored. */
  readonly length: number;
  readonly memory: SequenceMemory;
  /** Positions covered by the index, [first, end). Both 0 before the first build. */
  readonly indexedRange: readonly [number, number];
  /** Queries held that a build may make centroids of: the last of a prefill, as many as it may want, every fourth of generated tokens. */
  readonly numRecentQueries: number;
  /** A second sequence with the same tokens, format, KV pages (shared, copy on write), recent queries and index. */
  fork(): NativeSequence;
  /** Drops positions >= length: as if they had never been appended. The index goes back to what it was then. */
  truncate(length: number): void;
  /** Changes the selector; the next `buildIndex` uses it. An index of other build settings is dropped. */
  setSelector(selector: SelectorOptions): void;
  /**
   * Builds the index over what is stored, off the JavaScript thread; where there is one, the queries since become centroids. A no-op for
   * selectors without one, and below denseBelow. While tokens are generated, `step` grows it by itself.
   * @param maxMs once these milliseconds have passed, no further head is begun: where `headsLeft` is above 0, the index is as it was, and the
   * next call goes on (or begins anew, if the sequence has changed). Default: until it is built.
   */
  buildIndex(maxMs?: number): Promise<NativeBuildReport>;
  setSampler(sampler: NativeSamplerOptions): void;
  /**
   * Writes all that later steps depend on to a file, off the JavaScript thread: keys, values, index, recent queries, tokens, selector, sampler.
   * Like a step, one at a time. The file is there whole or as it was before: it is written beside the old one and renamed. `notes` come back
   * when it is restored. An unfinished build is not saved. Rejects with CTKVR_DISK_FULL, CTKVR_OUTPUT_FAILED, CTKVR_BUSY, CTKVR_CLOSED.
   */
  save(path: string, notes?: string): Promise<NativeSavedSequence>;
  close(): void;
}

export interface NativeSavedSequence {
  /** Of the file. */
  readonly bytes: number;
}

/** A sequence that was read from a file, and what it was saved with. */
export interface NativeRestoredSequence {
  readonly sequence: NativeSequence;
  readonly maxTokens: number;
  readonly kvFormat: KvFormat;
  readonly selector: SelectorOptions;
  readonly notes: string;
  /** Whether it was saved by the same kernels: else what follows differs from what would have followed there by rounding. */
  readonly sameArithmetic: boolean;
}

/** llama.cpp's sampler chain: penalties, top-k, top-p, min-p, temperature, then a seeded draw. temperature 0 = greedy. */
export interface NativeSamplerOptions {
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly topP: number;
  /** 0 = off. */
  readonly minP: number;
  /** 1 = off. */
  readonly repeatPenalty: number;
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  /** Last tokens of the sequence, the prompt's included, that `repeatPenalty` looks at. */
  readonly penaltyWindow: number;
  /** Tokens of the sequence before the answer: the other two penalties count what comes after. */
  readonly answerStart: number;
  /** u32. */
  readonly seed: number;
}

export interface NativeStepEntry {
  readonly sequence: NativeSequence;
  /** Token ids to append: one to decode, more to prefill. At least one. */
  readonly tokens: Int32Array;
  /** What to return for the last token: nothing, a token drawn by the sequence's sampler, or all logits (f32 [vocabSize]). */
  readonly output: 'none' | 'sample' | 'logits' | 'sampleAndLogits';
}

export interface NativeStepOptions {
  /** Also measure the true attention mass of every decode (reads all keys; for evaluation). */
  readonly audit?: boolean;
}

export interface NativeStepResult {
  /** One per plan entry, in order. */
  readonly sequences: readonly {
    readonly tokenId: number | null;
    readonly logits: Float32Array | null;
    /** null for a prefill. */
    readonly counters: SelectionCounters | null;
  }[];
  readonly timings: StepTimings;
}

/** One KV head's index on plain arrays, for packages/centroid-index and packages/token-refiner (backend 'native'). Keys and values are stored as f16. */
export interface NativeCentroidIndexConstructor {
  /**
   * @param input.keys f32 row-major [numTokens, headDim], rotated. @param input.values f32 [numTokens, headDim].
   * @param input.queries f32 [any, groupSize, headDim], rotated, oldest first: `options.centroids` says which become centroids.
   * @param input.isa '' = best.
   */
  build(input: {
    readonly keys: Float32Array;
    readonly values: Float32Array;
    readonly queries: Float32Array;
    readonly headDim: number;
    readonly groupSize: number;
    readonly options: SelectorOptions;
    readonly isa: string;
  }): Promise<NativeCentroidIndex>;
  /** Takes up what `save` gave: keys and values f32 [numTokens, headDim] are those of the saved index. */
  load(input: {
    readonly image: Uint8Array;
    readonly keys: Float32Array;
    readonly values: Float32Array;
    readonly isa: string;
  }): Promise<NativeCentroidIndex>;
}

/** While append, extend or insert runs, every other call but close is CTKVR_BUSY. */
export interface NativeCentroidIndex {
  readonly numTokens: number;
  readonly headDim: number;
  readonly groupSize: number;
  /** Centroids that probes look at. */
  readonly numCentroids: number;
  /** Indexed positions, [start, end). */
  readonly region: readonly number[];
  /** The blocks that probes look at, oldest first: where its lists end, tokens stored when it was made, its centroids. */
  readonly blocks: readonly { readonly end: number; readonly madeAt: number; readonly numCentroids: number }[];
  readonly indexBytes: number;
  /** How much the lists would miss, 0 to 1. */
  readonly volatility: number;
  /** Nearest similarity below which a query is unlike those of the build; -1: none is. */
  readonly similarityFloor: number;
  /** Positions of centroid c, ascending. */
  list(centroid: number): Uint32Array;
  /**
   * What stands for indexed positions that are not read; null without an index, or when its options say no tail. `corrections` f32
   * [groupSize]; of each segment `clusterOf` u16 [positions], mean `keys` and `values` f32 [numClusters, headDim].
   */
  tail(): {
    readonly corrections: Float32Array;
    readonly segments: readonly {
      readonly start: number;
      readonly madeAt: number;
      readonly clusterOf: Uint16Array;
      readonly keys: Float32Array;
      readonly values: Float32Array;
    }[];
  } | null;
  /** What all indexed positions but `candidates` (ascending) amount to for a query: lse f32 [groupSize], value f32 [groupSize, headDim]. */
  tailAt(query: Float32Array, candidates: Uint32Array): { readonly lse: Float32Array; readonly value: Float32Array };
  /** `candidates` (ascending) and the positions of the tail's heaviest clusters for a query, ascending. */
  widen(query: Float32Array, candidates: Uint32Array): Uint32Array;
  /** @param query f32 [groupSize, headDim]. Returns the numProbes nearest centroids, best first, and their similarities. */
  probe(query: Float32Array): { readonly centroids: Uint32Array; readonly similarities: Float32Array };
  /** Ascending union of the lists of `centroids`, and of the indexed positions that came after the first one's block. */
  candidates(centroids: Uint32Array): Uint32Array;
  /** Exact scores f32 [groupSize, candidates.length]. */
  scores(query: Float32Array, candidates: Uint32Array): Float32Array;
  /** Probe, union, refine: selected positions ascending. */
  select(query: Float32Array): { readonly candidates: Uint32Array; readonly selected: Uint32Array };
  /** The whole decode attention at the end of the sequence: f32 [groupSize, headDim]. */
  attend(query: Float32Array): {
    readonly output: Float32Array;
    readonly lse: Float32Array;
    /** f32 [groupSize]: estimated share of the attention that was read. */
    readonly mass: Float32Array;
    readonly counters: SelectionCounters;
  };
  /** Selection among candidates from anywhere (ascending, inside the rules' region): positions, ascending. */
  selectAmong(query: Float32Array, candidates: Uint32Array, rules: NativeRefineRules): Uint32Array;
  /**
   * Attention over what lies around the rules' region, the selected candidates, and `tail` for the rest.
   * @param tail lse f32 [groupSize], value f32 [groupSize, headDim]: the keys that are no candidates, at this query.
   */
  attendAmong(
    query: Float32Array,
    candidates: Uint32Array,
    rules: NativeRefineRules,
    tail?: { readonly lse: Float32Array; readonly value: Float32Array },
  ): ReturnType<NativeCentroidIndex['attend']>;
  /** Stores the tokens that follow, off the JavaScript thread. @param input.queries f32 [new, groupSize, headDim]. @param input.phase 'prefill' or 'decode'. */
  append(input: {
    readonly keys: Float32Array;
    readonly values: Float32Array;
    readonly queries: Float32Array;
    readonly phase: string;
  }): Promise<void>;
  /** Ends a turn: kept queries become a block, off the JavaScript thread. */
  extend(): Promise<void>;
  /** Makes a query, f32 [groupSize, headDim], a centroid by an exact scan off the JavaScript thread. */
  insert(query: Float32Array): Promise<void>;
  /** Drops positions >= length. */
  truncate(length: number): void;
  /** A second index with the same content, which is shared until one of them changes. */
  fork(): NativeCentroidIndex;
  /** The index as bytes (packages/centroid-index/src/index-image.ts), without keys and values. */
  save(): Promise<Uint8Array>;
  close(): void;
}

/** Rotary embedding on plain arrays, for packages/rope-similarity (backend 'native'). */
export interface NativeRotaryEmbeddingConstructor {
  create(options: {
    readonly headDim: number;
    /** 'half' | 'adjacent' */
    readonly pairing: string;
    /** Even, at most headDim. */
    readonly rotaryDim: number;
    readonly freqBase: number;
    readonly scaling: NativeRopeScaling;
  }): NativeRotaryEmbedding;
}

/** A scaling of any type; the numbers that its type takes must be there. */
export interface NativeRopeScaling {
  /** 'none' | 'linear' | 'ntk' | 'dynamicNtk' | 'llama3' | 'yarn' */
  readonly type: string;
  readonly factor?: number;
  /** Positions. */
  readonly originalContext?: number;
  /** Positions. */
  readonly numTokens?: number;
  readonly lowFreqFactor?: number;
  readonly highFreqFactor?: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly attentionFactor?: number;
  readonly truncate?: boolean;
}

export interface NativeRotaryEmbedding {
  /** Radians per position, f64 [rotaryDim / 2]. */
  readonly frequencies: Float64Array;
  readonly magnitude: number;
  rotate(input: NativeRotation): void;
  /** On a worker thread: leave the vectors alone until it settles. */
  rotateAsync(input: NativeRotation): Promise<void>;
}

export interface NativeRotation {
  /** f32 [numTokens, numHeads, headDim], changed in place; left as it was when a value is not finite. */
  readonly vectors: Float32Array;
  /** [numTokens]; absent: 0, 1, 2, ... */
  readonly positions?: Uint32Array;
  readonly numHeads: number;
  readonly inverse: boolean;
}

export interface NativeCosineInput {
  /** f32 [numTokens, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly distances: Uint32Array;
}

/** NaN where there is no pair. */
export interface NativeCosineByDistance {
  readonly distances: Uint32Array;
  readonly count: Uint32Array;
  /** f64 [numDistances] each: of the mean cosine over the heads. */
  readonly mean: Float64Array;
  readonly min: Float64Array;
  readonly max: Float64Array;
  readonly standardDeviation: Float64Array;
  /** f64 [numDistances, groupSize] each: of each head's own. */
  readonly headMean: Float64Array;
  readonly headMin: Float64Array;
  readonly headMax: Float64Array;
  readonly headStandardDeviation: Float64Array;
}

export interface NativeOverlapInput {
  /** f32 [numQueries, groupSize, headDim], rotated. */
  readonly queries: Float32Array;
  /** f32 [numKeys, headDim], rotated. */
  readonly keys: Float32Array;
  readonly groupSize: number;
  readonly headDim: number;
  readonly topK: number;
  /** Rows of queries, [numPairs, 2]. */
  readonly pairs: Uint32Array;
}

export interface NativeOverlapBySimilarity {
  /** f64 [numPairs] each, of the group. */
  readonly similarity: Float64Array;
  readonly overlap: Float64Array;
  /** f64 [numPairs, groupSize] each. */
  readonly headSimilarity: Float64Array;
  readonly headOverlap: Float64Array;
}

/** Where candidates may lie and how many of them are read, for `selectAmong` and `attendAmong`. */
export interface NativeRefineRules {
  /** Stored tokens that make up the sequence, from the first on. */
  readonly numTokens: number;
  /** The region of the candidates, [start, end); what is around it is always attended. */
  readonly start: number;
  readonly end: number;
  /** 0 = all. */
  readonly maxSelected: number;
  /** 1 = off. */
  readonly topP: number;
}
