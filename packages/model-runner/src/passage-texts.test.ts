import { expect, it } from 'vitest';
import { passageTexts } from './passage-texts.js';

/** Every byte is a token. */
const ofBytes = (passageSize: number) => ({ passageSize, tokenBytes: (id: number) => Uint8Array.of(id) });

it.each([
  ['', 4, []],
  ['abcdefghi', 4, ['abcd', 'efgh', 'i']],
  ['abcdefgh', 4, ['abcd', 'efgh']],
  ['ab\u20acde', 4, ['ab', '\u20acde']], // its three bytes are in both
  ['\u{1f600}a', 1, ['', '', '', '\u{1f600}', 'a']],
  ['\ufeffabc', 4, ['\ufeffa', 'bc']],
])('%j in passages of %d', (text, size, expected) => {
  expect(passageTexts(Int32Array.from(Buffer.from(text)), ofBytes(size))).toEqual(expected);
});

it('of bytes that are no text is, joined, what all of them together give', () => {
  const bytes = Uint8Array.from({ length: 600 }, (_, i) => (i * 37 + (i >> 3)) & 0xff);
  const texts = passageTexts(Int32Array.from(bytes), ofBytes(7));
  expect(texts).toHaveLength(Math.ceil(600 / 7));
  expect(texts.join('')).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
});
