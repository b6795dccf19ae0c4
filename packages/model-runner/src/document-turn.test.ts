import { describe, expect, it } from 'vitest';
import { commonPrefixLength, documentTurn } from './document-turn.js';

describe('the turn that asks a question of a document', () => {
  it('puts the question last, or first and last', () => {
    expect(documentTurn({ document: ' text\n', question: 'q?' })).toBe('text\n\nq?');
    expect(documentTurn({ document: 'text', question: 'q?', questionFirst: true })).toBe('q?\n\ntext\n\nq?');
  });

  it('finds the common beginning', () => {
    expect(commonPrefixLength(Int32Array.of(1, 2, 3), Int32Array.of(1, 2, 4, 5))).toBe(2);
    expect(commonPrefixLength(Int32Array.of(1, 2), Int32Array.of(1, 2, 3))).toBe(2);
  });
});

it.each(['', ' \n\t'])('an empty question is refused: %j', (question) => {
  expect(() => documentTurn({ document: 'text', question })).toThrow(
    expect.objectContaining({ code: 'CTKVR_INVALID_OPTION', fields: { option: 'question' } }),
  );
});
