/** What dense attention says, step by step: the yardstick of every selector. */
import type { Model, Session } from '@ctkvr/model-runner';
import { decodeSteps } from './decode-steps.js';

export interface DenseReference {
  /** Greedy choice of each step. */
  readonly tokens: readonly number[];
  /** One f32 [vocabSize] per step. */
  readonly logits: readonly Float32Array[];
}

/**
 * Decodes `numSteps` tokens greedily with the selector `full` on a fork of `base`. Tokens that would end the turn are passed over, so that
 * every step is one in running text.
 */
export async function denseReference(input: {
  readonly model: Model;
  readonly base: Session;
  readonly numSteps: number;
  readonly signal: AbortSignal;
  readonly onStep?: (step: number) => void;
}): Promise<DenseReference> {
  const { model, base, numSteps, signal, onStep } = input;
  const endTokens = new Set(model.info.endOfGenerationTokenIds);
  await using session = base.fork();
  session.setSelector({ selector: 'full', denseBelow: 0 });
  const tokens: number[] = [];
  const logits: Float32Array[] = [];
  const next = (stepLogits: Float32Array) => {
    const chosen = argmaxExcept(stepLogits, endTokens);
    tokens.push(chosen);
    return chosen;
  };
  for await (const step of decodeSteps({ model, session, numSteps, next, signal })) {
    logits.push(step.logits);
    onStep?.(logits.length);
  }
  return { tokens, logits };
}

function argmaxExcept(logits: Float32Array, excluded: ReadonlySet<number>): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if ((best < 0 || logits[i]! > logits[best]!) && !excluded.has(i)) best = i;
  }
  return best;
}
