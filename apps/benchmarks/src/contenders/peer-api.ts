/**
 * The part of node-llama-cpp 3.22.1 that we call, as its documentation describes it. It is not a dependency of this workspace: it is
 * installed into the cache on demand (install-peer.ts) and imported from there by path.
 */
export interface PeerModule {
  getLlama(options: {
    gpu: false;
    build: 'never';
    skipDownload: true;
    /** 0 = use the context's thread count, not the library's guess for this machine. */
    maxThreads: 0;
    logLevel: 'error';
    progressLogs: false;
  }): Promise<PeerLlama>;
}

export interface PeerLlama {
  loadModel(options: { modelPath: string; gpuLayers: 0 }): Promise<PeerModel>;
}

export interface PeerModel {
  createContext(options: {
    contextSize: number;
    threads: number;
    flashAttention: boolean;
    /** Each with a context of its own; their tokens share the steps. */
    sequences: number;
    /** Tokens of one step at most. Default 512. */
    batchSize?: number;
  }): Promise<PeerContext>;
}

export interface PeerContext {
  readonly currentThreads: number;
  getSequence(): PeerSequence;
  dispose(): Promise<void>;
}

export interface PeerSequence {
  readonly nextTokenIndex: number;
  evaluate(
    tokens: readonly number[],
    options: { temperature: 0; yieldEogToken: true },
  ): AsyncGenerator<number, void, undefined>;
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>;
  clearHistory(): Promise<void>;
  eraseContextTokenRanges(ranges: readonly { start: number; end: number }[]): Promise<void>;
  saveStateToFile(path: string): Promise<unknown>;
  loadStateFromFile(path: string, options: { acceptRisk: true }): Promise<unknown>;
}
