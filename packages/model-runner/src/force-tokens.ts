/** The loop of `session.force`: decode, tell, put the next token behind. */
import { CtkvrError } from '@ctkvr/core';
import type { Operation } from './operation.js';
import type { ForcedStep } from './session-types.js';
import type { StoredSequence } from './stored-sequence.js';

/** Yields `numTokens` steps. @param tokenAt which token is put behind in step i, whose logits are given: f32 [vocabSize]. */
export async function* forceTokens(input: {
  readonly sequence: StoredSequence;
  readonly operation: Operation;
  readonly numTokens: number;
  readonly tokenAt: (i: number, logits: Float32Array) => number;
  readonly audit: boolean | undefined;
}): AsyncGenerator<ForcedStep, void, undefined> {
  const { sequence, operation, audit } = input;
  for (let i = 0; i < input.numTokens; i++) {
    const { result, statistics } = await sequence.decode(operation, { output: 'logits', audit });
    const { logits } = result;
    if (logits === null) throw new CtkvrError('CTKVR_INTERNAL', 'the engine returned no logits');
    const tokenId = input.tokenAt(i, logits);
    sequence.push([tokenId]);
    yield { tokenId, logits, statistics };
  }
}
