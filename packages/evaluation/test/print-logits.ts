/**
 * Run by a test as a process of its own: prints, as base64, the logits f32 [steps, vocabSize] of a text's last tokens, each put where the
 * text has it. Arguments: model, tokens of the prompt, selector's options as JSON.
 */
import { loadModel } from '@ctkvr/model-runner';

const STEPS = 6;
const [path = '', numTokens = '', selector = ''] = process.argv.slice(2);
const text = Array.from({ length: 1000 }, (_, i) => `Entry ${i}: the value is ${(i * 7919) % 1000}.`).join('\n');

const model = await loadModel(path, { numThreads: 1 });
const tokens = (await model.tokenize(text)).slice(0, Number(numTokens) + STEPS);
const session = model.createSession({ selector: JSON.parse(selector) });
await session.prefill(tokens.slice(0, -STEPS));
if (session.native.indexedRange.end === 0 && JSON.parse(selector).method !== 'full')
  throw new Error('there is no index');
for await (const { logits } of session.force(tokens.slice(-STEPS))) {
  process.stdout.write(Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength).toString('base64'));
}
await model.close();
