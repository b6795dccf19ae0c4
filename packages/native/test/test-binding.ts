/** The built binary and the model of the end-to-end tests, and why they are skipped where one is missing. */
import { resolveSelectorOptions } from '@ctkvr/core';
import { loadBinding, type NativeBinding, type NativeModel, type NativeSequence } from '../src/index.js';

export const modelPath = process.env.CTKVR_TEST_MODEL ?? '';
export const noModel = modelPath === '' ? ' (skipped: CTKVR_TEST_MODEL names no GGUF file)' : '';

function load(): { binding: NativeBinding | null; reason: string } {
  try {
    return { binding: loadBinding(), reason: '' };
  } catch (error) {
    return { binding: null, reason: ` (skipped: ${error instanceof Error ? error.message : String(error)})` };
  }
}

const loaded = load();
export const noBinding = loaded.reason;
/** The binding; only to be called in tests that are not skipped. */
export function binding(): NativeBinding {
  if (loaded.binding === null) throw new Error(loaded.reason);
  return loaded.binding;
}

export const full = resolveSelectorOptions({ method: 'full' });

/** One thread: see describeWithModel in packages/model-runner. */
export async function loadTestModel(): Promise<NativeModel> {
  return await binding().loadModel(modelPath, { numThreads: 1 });
}

/** A sequence that holds `tokens`. */
export async function sequenceWith(model: NativeModel, tokens: readonly number[]): Promise<NativeSequence> {
  const sequence = model.createSequence({ maxTokens: 4096, selector: full });
  if (tokens.length > 0) await model.step([entry(sequence, tokens)], {});
  return sequence;
}

/** One token decodes, several are a prompt. */
export function entry(
  sequence: NativeSequence,
  tokens: readonly number[],
  output: 'none' | 'sample' | 'logits' = 'none',
) {
  const phase = tokens.length === 1 ? ('decode' as const) : ('prefill' as const);
  return { sequence, tokens: Int32Array.from(tokens), phase, output };
}

/** `count` token ids that differ. */
export function ids(count: number, first = 100): number[] {
  return Array.from({ length: count }, (_, i) => first + ((i * 37) % 5000));
}

/** Logits after one more token. */
export async function logitsAfter(model: NativeModel, sequence: NativeSequence, token: number): Promise<Float32Array> {
  const { sequences } = await model.step([entry(sequence, [token], 'logits')], {});
  const logits = sequences[0]?.logits;
  if (logits == null) throw new Error('asked for logits');
  return logits;
}
