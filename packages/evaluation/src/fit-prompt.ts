/** A chat prompt of a document and a question that is as long as asked, by cutting the document's end. */
import { CtkvrError, checkOptions, takes } from '@ctkvr/core';
import { commonPrefixLength, documentTurn, type Model } from '@ctkvr/model-runner';

/** No usual text has more characters a token than this; what lies beyond need not be tokenized. */
const MAX_CHARACTERS_PER_TOKEN = 24;
const MAX_ADJUSTMENTS = 12;

export interface FittedPrompt {
  /** The whole prompt, chat template included. */
  readonly tokens: Int32Array;
  /** Tokens that come before any question: what can be read before it is known. */
  readonly numDocumentTokens: number;
  /** The document as cut. */
  readonly document: string;
}

const inputChecks = {
  model: takes.object,
  text: takes.text,
  question: takes.text,
  numTokens: takes.integer(1, 0x7fff_ffff),
};

/**
 * Returns the longest prompt of at most `numTokens` tokens (usually of exactly as many) whose document is a beginning of `text`.
 * @throws {CtkvrError} CTKVR_INVALID_OPTION when the text is too short for it, or `numTokens` leaves no room for a document.
 */
export async function fitPrompt(input: {
  readonly model: Model;
  readonly text: string;
  readonly question: string;
  readonly numTokens: number;
}): Promise<FittedPrompt> {
  checkOptions('fitPrompt', input, inputChecks);
  const { model, text, question, numTokens } = input;
  const head = text.slice(0, numTokens * MAX_CHARACTERS_PER_TOKEN);
  const textTokens = await model.tokenize(head);
  const render = (document: string, asked = question) =>
    model.applyChatTemplate([{ role: 'user', content: documentTurn({ document, question: asked }) }]);
  const overhead = (await render('')).length;
  if (numTokens <= overhead) throw tooFew(numTokens, overhead);
  let best: { tokens: Int32Array; document: string } | null = null;
  let length = Math.min(numTokens - overhead, textTokens.length);
  const tried = new Set<number>();
  for (let i = 0; i < MAX_ADJUSTMENTS && !tried.has(length); i++) {
    tried.add(length);
    const document = wholeCharacters(model.detokenize(textTokens.subarray(0, length)));
    const tokens = await render(document);
    if (tokens.length <= numTokens && (best === null || tokens.length > best.tokens.length))
      best = { tokens, document };
    if (tokens.length === numTokens) break;
    length = Math.min(length + numTokens - tokens.length, textTokens.length);
    if (length < 1) throw tooFew(numTokens, overhead);
  }
  if (best === null)
    throw new CtkvrError('CTKVR_INTERNAL', `no beginning of the text gives a prompt of at most ${numTokens} tokens`);
  if (length === textTokens.length && best.tokens.length < numTokens - 8) throw tooShort(numTokens, best.tokens.length);
  const other = await render(best.document, question === 'A' ? '7' : 'A');
  return { ...best, numDocumentTokens: Math.min(commonPrefixLength(best.tokens, other), best.tokens.length - 1) };
}

/** A cut between tokens may fall inside a character. */
function wholeCharacters(text: string): string {
  return text.replace(/\uFFFD+$/, '');
}

function tooFew(numTokens: number, overhead: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `${numTokens} tokens leave no room for a text: the question and the chat template take ${overhead}`,
    {
      fields: { option: 'tokens', expected: overhead + 1, actual: numTokens },
    },
  );
}

function tooShort(numTokens: number, actual: number): CtkvrError {
  return new CtkvrError(
    'CTKVR_INVALID_OPTION',
    `the text gives a prompt of ${actual} tokens only, ${numTokens} are asked for: give a longer text or fewer tokens`,
    {
      fields: { option: 'tokens', expected: numTokens, actual },
    },
  );
}
