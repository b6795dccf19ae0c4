/** A prompt with one fact hidden in a long text, and the question that asks for it. */
import { type FittedPrompt, fitPrompt } from '@ctkvr/evaluation';
import type { Model } from '@ctkvr/model-runner';
import { hideFact } from './hide-fact.js';
import { lighthouseFact, QUESTION } from './lighthouse.js';

export interface NeedleTask {
  readonly prompt: FittedPrompt;
  readonly number: number;
  /** Token of the prompt at which the fact begins. */
  readonly factAt: number;
}

/**
 * Hides the fact with `number` at `depth` (0 = beginning, 1 = end) in so much of `text` that the prompt has at most `numTokens` tokens.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when the text is too short for it.
 */
export async function needleTask(input: {
  readonly model: Model;
  readonly text: string;
  readonly numTokens: number;
  readonly number: number;
  readonly depth: number;
}): Promise<NeedleTask> {
  const { model, text, numTokens, number, depth } = input;
  const fact = lighthouseFact(number);
  // The prompt is cut to size at its end: the fact goes into what remains.
  const plain = await fitPrompt({
    model,
    text,
    question: QUESTION,
    numTokens: numTokens - (await model.tokenize(`\n\n${fact}`)).length,
  });
  const hidden = hideFact(plain.document, fact, depth);
  const prompt = await fitPrompt({ model, text: hidden.text, question: QUESTION, numTokens });
  return { prompt, number, factAt: (await model.tokenize(hidden.text.slice(0, hidden.at))).length };
}
