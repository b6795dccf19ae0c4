/** One caller's request while the composer works on it: what is left to run, and how it ends. Internal to this package. */
import { CtkvrError } from '@ctkvr/core';
import { isDeviceLost } from './device-lost.js';
import type {
  EngineSequence,
  EngineStepResult,
  SequenceStepResult,
  StepMeasures,
  StepOutput,
  StepPhase,
} from './step-engine.js';

/** The end of a request: what its last token gave, and what the steps took. */
export interface RequestResult extends SequenceStepResult {
  /** Timings of the last step the request took part in. Steps are shared: other sequences' work is in them too. */
  readonly timings: EngineStepResult['timings'];
  /** Sum of totalMs over all its steps. */
  readonly engineMs: number;
  /** Sequences in the last step. */
  readonly numSequences: number;
}

/** Measures are of all decodes in the same step. */
export interface StepRequestOptions extends StepMeasures {
  /** A decode has one token; a prefill has any number and may take several steps. */
  readonly phase: StepPhase;
  readonly output?: StepOutput;
  readonly signal?: AbortSignal | undefined;
  /** Called after each of the request's steps with the tokens stored so far. A throw here ends the request. */
  readonly onProgress?: ((progress: { readonly tokensDone: number; readonly tokensTotal: number }) => void) | undefined;
}

export class StepRequest<Sequence extends EngineSequence> {
  readonly sequence: Sequence;
  readonly tokens: Int32Array;
  readonly options: StepRequestOptions;
  readonly promise: Promise<RequestResult>;
  /** Tokens already stored by earlier steps. */
  tokensDone = 0;
  /** After a shared step failed, its participants run alone, so that only the one at fault fails. */
  mustRunAlone = false;
  /** Set when the request is to end as soon as it is in no step. */
  abortError: CtkvrError | null = null;
  readonly #startLength: number;
  #engineMs = 0;
  #resolve!: (result: RequestResult) => void;
  #reject!: (error: unknown) => void;

  constructor(sequence: Sequence, tokens: Int32Array, options: StepRequestOptions) {
    this.sequence = sequence;
    this.tokens = tokens;
    this.options = options;
    this.#startLength = sequence.length;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isDecode(): boolean {
    return this.options.phase === 'decode';
  }

  get tokensLeft(): number {
    return this.tokens.length - this.tokensDone;
  }

  /** Counts a step that stored `numTokens` of this request; resolves it when that was the rest. Returns whether it is finished. */
  advance(numTokens: number, output: SequenceStepResult, step: EngineStepResult): boolean {
    this.tokensDone += numTokens;
    this.#engineMs += step.timings.totalMs;
    this.options.onProgress?.({ tokensDone: this.tokensDone, tokensTotal: this.tokens.length });
    if (this.tokensLeft > 0) return false;
    this.#resolve({
      ...output,
      timings: step.timings,
      engineMs: this.#engineMs,
      numSequences: step.sequences.length,
    });
    return true;
  }

  /** Puts the sequence back to where the request found it, and rejects. */
  fail(error: unknown): void {
    try {
      if (this.sequence.length > this.#startLength) this.sequence.truncate(this.#startLength);
    } catch (cause) {
      if (isDeviceLost(error)) {
        this.#reject(error); // there is nothing left to put back
        return;
      }
      this.#reject(
        new CtkvrError('CTKVR_INTERNAL', 'a request failed and its sequence could not be put back; close the session', {
          cause: new AggregateError([error, cause]),
        }),
      );
      return;
    }
    this.#reject(error);
  }
}
