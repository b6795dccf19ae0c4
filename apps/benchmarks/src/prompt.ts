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
  const [tokens] = await promptSlices(source, { numTokens, count: 1 });
  return tokens!;
}

/**
 * Returns `count` prompts of exactly `numTokens` ids: one after another from the beginning of the book, or, where it is too short for that,
 * evenly spread over it, so that neighbours share a part but none begins like another.
 * @throws {RangeError} when the book is shorter than one of them.
 */
export async function promptSlices(
  source: PromptSource,
  { numTokens, count }: { readonly numTokens: number; readonly count: number },
): Promise<Int32Array[]> {
  const text = (await readMobyDick()).slice(0, numTokens * count * CHARACTERS_PER_TOKEN);
  return slices(await source.tokenize(text), { numTokens, count });
}

/** What `promptSlices` returns, of tokens. @throws {RangeError} */
export function slices(
  tokens: Int32Array,
  { numTokens, count }: { readonly numTokens: number; readonly count: number },
): Int32Array[] {
  const free = tokens.length - numTokens;
  if (free < count - 1) {
    throw new RangeError(`the text has ${tokens.length} tokens, ${count} times ${numTokens} were asked for`);
  }
  const stride = count === 1 ? 0 : Math.min(numTokens, Math.floor(free / (count - 1)));
  return Array.from({ length: count }, (_, index) => tokens.slice(index * stride, index * stride + numTokens));
}
