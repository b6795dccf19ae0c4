/** A long text with facts hidden in it, and the question that asks for each. */
import { fitPrompt } from '@ctkvr/evaluation';
import { commonPrefixLength, documentTurn, type Model } from '@ctkvr/model-runner';
import type { Needle } from './draw-needle.js';
import { hideFacts } from './hide-facts.js';
import { lighthouseFact, lighthouseQuestion } from './lighthouse.js';

export interface NeedlePrompt {
  /** Tokens before any question: the template's beginning and the text. */
  readonly document: Int32Array;
  readonly needles: readonly HiddenNeedle[];
}

export interface HiddenNeedle extends Needle {
  /** Token of the text at which the fact begins. */
  readonly factAt: number;
  /** Tokens after `document` that ask for it, up to where the answer begins. */
  readonly question: Int32Array;
}

/**
 * Hides the facts in so much of `text` that document and question have at most `numTokens` tokens.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when the text is too short for it, or the facts leave no room for it.
 */
export async function needlePrompt(input: {
  readonly model: Model;
  readonly text: string;
  readonly numTokens: number;
  /** At least one. */
  readonly needles: readonly Needle[];
}): Promise<NeedlePrompt> {
  const { model, text, numTokens, needles } = input;
  const facts = needles.map(({ number, place, depth }) => ({ fact: lighthouseFact(number, place), depth }));
  const questions = needles.map(({ place }) => lighthouseQuestion(place));
  const question = await longest(model, questions);
  // The prompt is cut to size at its end: the facts go into what remains.
  const factTokens = await model.tokenize(facts.map(({ fact }) => `\n\n${fact}`).join(''));
  const plain = await fitPrompt({ model, text, question, numTokens: numTokens - factTokens.length });
  const hidden = hideFacts(plain.document, facts);
  const fitted = await fitPrompt({ model, text: hidden.text, question, numTokens });
  const prompts = await Promise.all(
    questions.map((asked) => {
      const content = documentTurn({ document: fitted.document, question: asked });
      return model.applyChatTemplate([{ role: 'user', content }]);
    }),
  );
  const shared = prompts.map((tokens) => commonPrefixLength(tokens, fitted.tokens));
  const numDocumentTokens = Math.min(fitted.numDocumentTokens, ...shared);
  const factAt = await Promise.all(
    hidden.at.map(async (at) => (await model.tokenize(hidden.text.slice(0, at))).length),
  );
  return {
    document: fitted.tokens.subarray(0, numDocumentTokens),
    needles: needles.map((needle, i) => ({
      ...needle,
      factAt: factAt[i]!,
      question: prompts[i]!.subarray(numDocumentTokens),
    })),
  };
}

/** Of texts, the one with most tokens. */
async function longest(model: Model, texts: readonly string[]): Promise<string> {
  const lengths = await Promise.all(texts.map(async (text) => (await model.tokenize(text)).length));
  return texts[lengths.indexOf(Math.max(...lengths))]!;
}
