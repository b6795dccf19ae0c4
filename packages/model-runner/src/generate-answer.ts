/** The loop of `session.generate`: decode, draw, text, and the ways it can end. */
import { CtkvrError } from '@ctkvr/core';
import type { NativeSamplerOptions, NativeTokenBias } from '@ctkvr/native';
import { AnswerText } from './answer-text.js';
import type { Grammar } from './grammar.js';
import type { Operation } from './operation.js';
import type { GenerateEvent, GenerateFinish, GenerateOptions } from './session-types.js';
import type { StoredSequence } from './stored-sequence.js';

export interface AnswerInput {
  readonly sequence: StoredSequence;
  readonly operation: Operation;
  readonly options: GenerateOptions;
  readonly maxTokens: number;
  readonly stops: readonly string[];
  readonly sampling: NativeSamplerOptions;
  readonly biases: readonly NativeTokenBias[];
  /** Tokens that end the turn. */
  readonly endTokens: ReadonlySet<number>;
  /** Compiles what the answer is bound to; null where it is bound to nothing. */
  readonly grammar: () => Promise<Grammar | null>;
  readonly tokenBytes: (tokenId: number) => Uint8Array;
  /** Called once, however it ends. `emitted`: the answer's text; `stored`: the beginning of it that the sequence's tokens spell. */
  readonly onEnd: (finish: GenerateFinish, text: { readonly emitted: string; readonly stored: string }) => void;
}

/** Yields an answer token by token. @throws {CtkvrError} what the operation is aborted with, and what the engine rejects with. */
export async function* generateAnswer(input: AnswerInput): AsyncGenerator<GenerateEvent, void, undefined> {
  const { sequence, operation, options, maxTokens, sampling } = input;
  const startedAt = performance.now();
  const startLength = sequence.length;
  const answer = new AnswerText(input.stops);
  const output = options.logits ? 'sampleAndLogits' : 'sample';
  let reason: GenerateFinish['reason'] = 'aborted';
  let stopString: string | null = null;
  let numTokens = 0;
  try {
    const grammar = await input.grammar();
    operation.check();
    sequence.native.setSampler(sampling, grammar?.native, input.biases);
    while (reason === 'aborted') {
      const { audit, readMap: wantsMap } = options;
      const { result, statistics } = await sequence.decode(operation, { output, audit, readMap: wantsMap });
      const { tokenId, logits, failure = null } = result;
      if (failure !== null) throw new CtkvrError('CTKVR_GRAMMAR_FAILED', failure);
      const readMap = wantsMap ? result.readMap : null;
      if (tokenId === null) throw new CtkvrError('CTKVR_INTERNAL', 'the engine returned no token');
      if (input.endTokens.has(tokenId)) {
        reason = 'stop';
        const text = answer.flush();
        if (text !== '') yield { tokenId, text, statistics, logits, readMap };
        return;
      }
      sequence.push([tokenId]);
      numTokens += 1;
      const piece = answer.push(input.tokenBytes(tokenId));
      stopString = piece.stop;
      let { text } = piece;
      if (stopString !== null) {
        reason = 'stopString';
        numTokens = answer.kept.numTokens;
        sequence.truncate(startLength + numTokens);
      } else if (numTokens === maxTokens) {
        reason = 'length';
        text += answer.flush();
      }
      yield { tokenId, text, statistics, logits, readMap };
    }
  } finally {
    const totalMs = performance.now() - startedAt;
    input.onEnd(
      { reason, numTokens, stopString, seed: sampling.seed, totalMs },
      { emitted: answer.emitted, stored: answer.kept.text },
    );
  }
}
