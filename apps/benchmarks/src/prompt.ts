/** The text every benchmark runs on: Moby Dick from its beginning, tokenized once, the same ids for every contender. */
import { readMobyDick } from '@ctkvr/model-runner';

/** More characters a token than any of our tokenizers has on this text: enough is tokenized, and not the whole book each time. */
const CHARACTERS_PER_TOKEN = 8;

export interface PromptSource {
  tokenize(text: string): Promise<Int32Array>;
}

/**
 * Returns exactly `numTokens` ids.
 * @throws {RangeError} when the book is shorter.
 */
export async function promptTokens(source: PromptSource, numTokens: number): Promise<Int32Array> {
  const text = (await readMobyDick()).slice(0, numTokens * CHARACTERS_PER_TOKEN);
  const tokens = await source.tokenize(text);
  if (tokens.length < numTokens)
    throw new RangeError(`the text has ${tokens.length} tokens, ${numTokens} were asked for`);
  return tokens.slice(0, numTokens);
}
