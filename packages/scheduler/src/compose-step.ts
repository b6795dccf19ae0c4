/**
 * Which requests share the next step, and how much of each. Pure policy: looks at the waiting requests, changes nothing.
 *
 * Decodes come first, all of them: each is one row, and together they cost little more than one, because the weights are read once.
 * Then one chunk of one waiting prefill, the first in the queue (the composer rotates it). While others decode the chunk is as long as
 * their waits allow (step-times.ts), since every decode in the step waits for the whole step.
 */
import type { EngineSequence } from './step-engine.js';
import type { StepRequest } from './step-request.js';
import type { StepTimes } from './step-times.js';

export interface ComposeLimits {
  /** Tokens of prefill in one step while nobody decodes. */
  readonly prefillChunk: number;
  /** The most tokens of prefill in one step while others decode. */
  readonly prefillChunkBesideDecode: number;
  /** How many times as long as decodes alone a step with a prefill beside them may take. */
  readonly decodeSlowdown: number;
}

/** A request's share of a step: its next `numTokens` tokens. */
export interface Share<Sequence extends EngineSequence> {
  readonly request: StepRequest<Sequence>;
  readonly numTokens: number;
}

export interface ComposeInput<Sequence extends EngineSequence> {
  readonly decodes: readonly StepRequest<Sequence>[];
  readonly prefills: readonly StepRequest<Sequence>[];
  /** Whether the step before held a decode: its caller is probably about to ask for the next token. */
  readonly decodedLately: boolean;
  readonly times: StepTimes;
  readonly limits: ComposeLimits;
}

/** Returns the shares of the next step: empty when nothing waits. */
export function composeStep<Sequence extends EngineSequence>(input: ComposeInput<Sequence>): Share<Sequence>[] {
  const { decodes, prefills, decodedLately, limits, times } = input;
  const alone = [...decodes, ...prefills].find((request) => request.mustRunAlone);
  if (alone !== undefined) return [share(alone, limits.prefillChunk)];
  const shares = decodes.map((request) => share(request, 1));
  const prefill = prefills[0];
  if (prefill === undefined) return shares;
  if (shares.length === 0 && !decodedLately) return [share(prefill, limits.prefillChunk)];
  const room = Math.min(times.tokensBeside(shares.length, limits.decodeSlowdown), limits.prefillChunkBesideDecode);
  return room === 0 && shares.length > 0 ? shares : [...shares, share(prefill, Math.max(room, 1))];
}

/** The next tokens of a request, at most `chunk`. */
function share<Sequence extends EngineSequence>(request: StepRequest<Sequence>, chunk: number): Share<Sequence> {
  return { request, numTokens: Math.min(chunk, request.tokensLeft) };
}
