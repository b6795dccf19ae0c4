/** The model of the end-to-end tests: a GGUF file named by CTKVR_TEST_MODEL (the root's test script sets it to SmolLM2). */
import { afterAll, beforeAll, describe } from 'vitest';
import { loadModel, type Model, type Session } from '../src/index.js';

const path = process.env.CTKVR_TEST_MODEL ?? '';

/** Why the tests are skipped, as part of their name, so that every reporter prints it. */
const reason = path === '' ? ' (skipped: CTKVR_TEST_MODEL names no GGUF file)' : '';

/**
 * A suite that runs on the loaded model; `model()` gives it, once the suite's tests run. One thread unless asked: threads that wait for
 * each other at every operation make a step many times slower on a machine that is busy with other tests.
 */
export function describeWithModel(
  name: string,
  define: (model: () => Model) => void,
  { numThreads = 1 }: { readonly numThreads?: number } = {},
): void {
  describe.skipIf(path === '')(`${name}${reason}`, { timeout: 180_000 }, () => {
    let model: Model | null = null;
    beforeAll(async () => {
      model = await loadModel(path, { numThreads });
    });
    afterAll(async () => {
      await model?.close();
    });
    define(() => {
      if (model === null) throw new Error('the model is loaded before the tests run');
      return model;
    });
  });
}

/** Text of a generation, joined. */
export async function textOf(session: Session, options: Parameters<Session['generate']>[0] = {}): Promise<string> {
  let text = '';
  for await (const event of session.generate(options)) text += event.text;
  return text;
}

/** A question the default model answers reliably. */
export const capital = [{ role: 'user', content: 'What is the capital of France? Answer in one sentence.' }];

/** Prose of about `numTokens` tokens that repeats itself little: numbered sentences. */
export function prose(numTokens: number): string {
  const subjects = ['The keeper', 'A sailor', 'Her sister', 'The old clock', 'Our neighbour', 'That ship'];
  const verbs = ['watched', 'painted', 'remembered', 'carried', 'repaired', 'counted'];
  const objects = ['the harbour', 'a lantern', 'seven stones', 'the long letter', 'a wooden boat', 'the storm'];
  const sentences: string[] = [];
  for (let i = 0; sentences.length * 9 < numTokens; i++) {
    const [s, v, o] = [subjects[i % 6], verbs[(i * 5 + 1) % 6], objects[Math.floor(i / 6) % 6]];
    sentences.push(`On day ${i + 1} ${s?.toLowerCase()} ${v} ${o}.`);
  }
  return sentences.join(' ');
}
