/** The distributions of dense attention, step by step: what every selector is compared with. */
import { checkOptions, type OptionChecks, takes } from '@ctkvr/core';
import type { Model, Session } from '@ctkvr/model-runner';

/** A reference with more bytes than this does not keep its distributions: it decodes again, step by step, for each comparison. */
const MAX_KEPT_BYTES = 256 * 2 ** 20;

export interface DenseReference {
  /** Greedy choice of each step. */
  readonly tokens: readonly number[];
  /**
   * Yields the distribution of each step, f32 [vocabSize]. A long reference decodes for it, on a fork of its base: that one must still be open.
   * @throws {CtkvrError} what `session.force` throws.
   */
  distributions(): AsyncGenerator<Float32Array, void, undefined>;
}

export interface DenseReferenceInput {
  readonly model: Model;
  readonly base: Session;
  readonly numSteps: number;
  readonly signal: AbortSignal;
  /** Bytes of distributions to keep in memory at most. Default 256 MiB. */
  readonly maxKeptBytes?: number;
  readonly onStep?: (step: number) => void;
}

const inputChecks: OptionChecks<DenseReferenceInput> = {
  model: takes.object,
  base: takes.object,
  numSteps: takes.integer(1, 0x7fff_ffff),
  signal: takes.abortSignal,
  maxKeptBytes: takes.optional(takes.integer(0, Number.MAX_SAFE_INTEGER)),
  onStep: takes.optional(takes.func),
};

/**
 * Decodes `numSteps` tokens greedily with the selector `full` on a fork of `base`. Tokens that would end the turn are passed over, so that
 * every step is one in running text.
 * @throws {CtkvrError} CTKVR_CONTEXT_EXCEEDED, CTKVR_OUT_OF_MEMORY, CTKVR_ABORTED.
 */
export async function denseReference(input: DenseReferenceInput): Promise<DenseReference> {
  checkOptions('denseReference', input, inputChecks);
  const { model, base, numSteps, signal, maxKeptBytes = MAX_KEPT_BYTES, onStep } = input;
  const keeps = numSteps * model.info.vocabSize * Float32Array.BYTES_PER_ELEMENT <= maxKeptBytes;
  const endTokens = new Set(model.info.endOfGenerationTokenIds);
  await using session = denseFork(base);
  const tokens: number[] = [];
  const kept: Float32Array[] = [];
  const choose = (logits: Float32Array) => argmaxExcept(logits, endTokens);
  for await (const { tokenId, logits } of session.force(choose, { numTokens: numSteps, signal })) {
    tokens.push(tokenId);
    if (keeps) kept.push(logits);
    onStep?.(tokens.length);
  }
  return {
    tokens,
    async *distributions() {
      if (keeps) {
        yield* kept;
        return;
      }
      await using again = denseFork(base);
      for await (const { logits } of again.force(tokens, { signal })) yield logits;
    },
  };
}

function denseFork(base: Session): Session {
  const session = base.fork();
  session.setSelector({ method: 'full', denseBelow: 0 });
  return session;
}

function argmaxExcept(logits: Float32Array, excluded: ReadonlySet<number>): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if ((best < 0 || logits[i]! > logits[best]!) && !excluded.has(i)) best = i;
  }
  return best;
}
