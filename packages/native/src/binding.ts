/**
 * The one typed seam of the native binary (rust-kernels/crates/ctkvr-napi). Everything that crosses is plain data or a typed array.
 * Native errors arrive as Error with `message` = JSON { code, message, fields } and are mapped in errors.ts only.
 */
import type {
  IndexedRegion,
  KvFormat,
  NativeIndexBinding,
  NativeRopeBinding,
  RopeOptions,
  SelectionCounters,
  SelectorOptions,
  SequenceMemory,
  StepTimings,
} from '@ctkvr/core';

export interface NativeBinding extends NativeIndexBinding, NativeRopeBinding {
  /** Version of the crate, instruction sets compiled in, and the one chosen at run time. */
  buildInfo(): NativeBuildInfo;
  /** Opens, checks and maps a GGUF file off the JavaScript thread. Nothing is loaded but the header and the vocabulary. */
  inspectModel(path: string): Promise<NativeModelInfo>;
  /** Loads weights off the JavaScript thread. `onProgress` receives 0..1. */
  loadModel(path: string, options: NativeLoadOptions, onProgress?: (fraction: number) => void): Promise<NativeModel>;
  /**
   * The most bytes that a sequence holds between operations, of any model's sizes: nothing need be loaded. Keys and values are whole pages. While an
   * index is built anew the old one still stands.
   */
  memoryNeed(question: NativeMemoryQuestion): NativeMemoryNeed;
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
  /** Devices of this machine beside the CPU, the unusable ones too. Asks the driver each time. Binaries of before there were devices lack it. */
  listDevices?(): NativeDeviceList;
  /** Resident set size of this process now and at its peak, bytes. */
  processMemory(): { rssBytes: number; peakRssBytes: number };
}

/** The sizes are those of a `NativeModelInfo`. */
export interface NativeMemoryQuestion {
  readonly numLayers: number;
  readonly numQueryHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Default: none, as null. */
  readonly localLayers?: NativeLocalLayers | null;
  /** The most tokens that the sequence may store. */
  readonly contextLength: number;
  /** Tokens stored. Default: the whole context. The need rises with them. */
  readonly numTokens?: number;
  /** Default 'f16'. */
  readonly kvFormat?: KvFormat;
  readonly selector: SelectorOptions;
}

export interface NativeMemoryNeed {
  readonly kvBytes: number;
  /** The index, and the queries kept for it. */
  readonly indexBytes: number;
}

export interface NativeDeviceList {
  readonly devices: readonly NativeDevice[];
  /** Why there are none; null or left out where there are some. */
  readonly reason?: string | null;
}

export interface NativeDevice {
  /** As `NativeLoadOptions.device` takes it: 'cuda:0'. */
  readonly name: string;
  /** The product's name, as the driver says it. */
  readonly description: string;
  /** '8.9': which machine code it runs. */
  readonly computeCapability: string;
  readonly totalBytes: number;
  /** Now, whoever uses the rest. */
  readonly freeBytes: number;
  /** Why it cannot be used; null or left out when it can. */
  readonly unusable?: string | null;
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
  /** Tokens of a page of keys and values. */
  readonly pageSize: number;
  /** Tokens of a passage, by which read maps count. */
  readonly passageSize: number;
}

/**
 * Layers whose rows see a sliding window of positions, the last ones. They have no index: none is built, searched, grown or counted for them.
 */
export interface NativeLocalLayers {
  /** Positions that a row sees, its own included. */
  readonly window: number;
  /** Of so many layers in a row the last one sees everything; 0 = none does. */
  readonly period: number;
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
  /** null where every layer sees everything. Binaries of before there were such models lack it. */
  readonly localLayers?: NativeLocalLayers | null;
  /** Longest context the model was trained for. */
  readonly trainedContext: number;
  readonly ropeFreqBase: number;
  /** 'none', 'linear', 'yarn', 'llama3' or 'longrope', as the GGUF says or a load has changed it. */
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

export interface NativeLoadOptions extends RopeOptions {
  /** Threads of the engine; 0 = numUsableThreads. */
  readonly numThreads: number;
  /** Tokens of prefill that go through the layers at once. Default 512. */
  readonly prefillChunk?: number;
  /** Names one of `availableIsas`. Default: the last. */
  readonly isa?: string;
  /** Use weights in place, from the file, where no faster order of them is known: processes share them. Default false: copies in huge pages. */
  readonly mapWeights?: boolean;
  /**
   * The most bytes that keys and values of all sequences may take, on the device where one is used; a step that needs more rejects with
   * CTKVR_OUT_OF_MEMORY. Default: no limit.
   */
  readonly kvBudgetBytes?: number;
  /**
   * 'cpu' (the default), 'cuda' (the first) or 'cuda:N'. Rejects with CTKVR_DEVICE_UNAVAILABLE where it is not to be had; a step on a device
   * that fails for good rejects with CTKVR_DEVICE_LOST, as does every later one.
   */
  readonly device?: string;
  /** Of a device: its last layers, so many (at most all), keep their keys and values in host memory. `kvBudgetBytes` bounds the others'. */
  readonly hybridLayers?: number;
}

export interface NativeModel {
  readonly info: NativeModelInfo;
  readonly numThreads: number;
  /** Tokenizes off the JavaScript thread. With parseSpecial false, control tokens in the text stay plain text. Adds no BOS. */
  tokenize(text: string, parseSpecial: boolean): Promise<Int32Array>;
  /**
   * Compiles a grammar in llguidance's form of Lark, in which `%json {…}` is a JSON schema, off the JavaScript thread. The first one of a model
   * also prepares the vocabulary. Rejects with CTKVR_INVALID_OPTION (option `grammar`) naming what is not supported. Binaries of before there
   * were grammars lack it.
   */
  compileGrammar?(lark: string): Promise<NativeGrammar>;
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
  /** Positions covered by the index. Both 0 before the first build. */
  readonly indexedRange: IndexedRegion;
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
  /**
   * @param grammar what the answer is bound to, from its beginning: tokens that end a turn are drawn only where it may end.
   * @param biases CTKVR_INVALID_OPTION for a token that the vocabulary does not have. No snapshot holds either; older binaries ignore biases.
   */
  setSampler(
    sampler: NativeSamplerOptions,
    grammar?: NativeGrammar | null,
    biases?: readonly NativeTokenBias[] | null,
  ): void;
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

/** A compiled grammar, for any number of answers of its model. Opaque. */
export type NativeGrammar = object;

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

/** Added to a token's logit before penalties and samplers see it. */
export interface NativeTokenBias {
  readonly token: number;
  /** From -100 to 100. */
  readonly bias: number;
}

/** llama.cpp's sampler chain: penalties, top-k, typical-p, top-p, min-p, temperature, then a seeded draw. temperature 0 = greedy. */
export interface NativeSamplerOptions {
  readonly temperature: number;
  /** 0 = off. */
  readonly topK: number;
  /** 1 = off. */
  readonly typicalP: number;
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
  /** Token ids to append: one to decode, one or more to prefill. */
  readonly tokens: Int32Array;
  /** Whether they are an answer's token or a prompt's: their rows are computed and indexed differently. */
  readonly phase: 'prefill' | 'decode';
  /** What to return for the last token: nothing, a token drawn by the sequence's sampler, or all logits (f32 [vocabSize]). */
  readonly output: 'none' | 'sample' | 'logits' | 'sampleAndLogits';
}

export interface NativeStepOptions {
  /** Also measure the true attention mass of every decode (reads all keys; for evaluation). */
  readonly audit?: boolean;
  /** Also tell where the attention of every decode went. */
  readonly readMap?: boolean;
}

export interface NativeStepResult {
  /** One per plan entry, in order. */
  readonly sequences: readonly {
    readonly tokenId: number | null;
    /** Why no token was drawn: the sequence's grammar could not say what comes next. null or left out where nothing failed. */
    readonly failure?: string | null;
    readonly logits: Float32Array | null;
    /** null for a prefill. */
    readonly counters: SelectionCounters | null;
    /** f32, one for each passage of the sequence: SequenceStepResult of @ctkvr/scheduler. */
    readonly readMap: Float32Array | null;
  }[];
  readonly timings: StepTimings;
}
