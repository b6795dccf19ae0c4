import type { KvFormat } from '@ctkvr/core';
import type { NativeModelInfo } from '@ctkvr/native';
import type { OperationSizes } from './token-operations.js';

/** Teacher-forced steps of the quality figure beside each speed. */
export const QUALITY_STEPS = 16;

/** What every suite is told that runs a model. */
export interface SuiteOptions {
  /** Absolute path of the GGUF file. */
  readonly modelPath: string;
  readonly model: OperationSizes & Pick<NativeModelInfo, 'sizeBytes' | 'kvBytesPerToken' | 'trainedContext'>;
  /** Tokens before the first measured one. */
  readonly context: number;
  /** Times each contender has its turn. */
  readonly rounds: number;
  /** Decoded tokens a turn. */
  readonly tokensPerRound: number;
  /** Whether node-llama-cpp takes part. */
  readonly peer: boolean;
  /** Most threads the peer is tried with: those that really run at once here. */
  readonly maxThreads: number;
  /** Passed to our selector; undefined = the preset's. */
  readonly denseBelow: number | undefined;
  /** Of our session in `decode`; the peer's is always f16. */
  readonly kvFormat: KvFormat;
  readonly onProgress: (line: string) => void;
}
