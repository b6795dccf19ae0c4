/** Tokens made more or less likely one by one. */
import { CtkvrError } from '@ctkvr/core';
import type { NativeTokenBias } from '@ctkvr/native';

/** From token ids to what is added to their logits, from -100 to 100. */
export type LogitBias = Readonly<Record<number, number>>;

/** The OpenAI API's. */
const MAX_BIAS = 100;

/** @throws {CtkvrError} CTKVR_INVALID_OPTION naming the entry; whether the vocabulary has the token is the engine's to say. */
export function resolveLogitBias(bias: LogitBias = {}): readonly NativeTokenBias[] {
  return Object.entries(bias).map(([name, value]: [string, unknown]) => {
    const token = Number(name);
    if (!/^\d{1,9}$/.test(name)) throw invalid('keyed by token ids', `the key ${JSON.stringify(name.slice(0, 40))}`);
    if (typeof value !== 'number' || !(value >= -MAX_BIAS && value <= MAX_BIAS)) {
      throw invalid(`a number from -${MAX_BIAS} to ${MAX_BIAS} for token ${name}`, String(value));
    }
    return { token, bias: value };
  });
}

function invalid(expected: string, actual: string): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `logitBias must be ${expected}, got ${actual}`, {
    fields: { option: 'logitBias', expected, actual },
  });
}
