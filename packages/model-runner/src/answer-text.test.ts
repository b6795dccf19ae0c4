import { describe, expect, it } from 'vitest';
import { AnswerText } from './answer-text.js';

const bytes = (text: string) => new TextEncoder().encode(text);

describe('AnswerText', () => {
  it('cuts a stop string at the last token that lies wholly before it', () => {
    const answer = new AnswerText(['END']);
    for (const token of ['One', ' two', ' E']) expect(answer.push(bytes(token)).stop).toBeNull();
    expect(answer.push(bytes('ND!'))).toEqual({ text: '', stop: 'END' });
    expect(answer.emitted).toBe('One two ');
    expect(answer.kept).toEqual({ numTokens: 2, text: 'One two' });
  });

  it('keeps no token that ends inside a character of the stop string', () => {
    const answer = new AnswerText(['😀']);
    const smile = bytes('😀');
    expect(answer.push(bytes('hi')).text).toBe('hi');
    expect(answer.push(smile.subarray(0, 2))).toEqual({ text: '', stop: null });
    expect(answer.push(smile.subarray(2))).toEqual({ text: '', stop: '😀' });
    expect(answer.kept).toEqual({ numTokens: 1, text: 'hi' });
  });

  it('gives back held text when no stop string comes of it', () => {
    const answer = new AnswerText(['END']);
    expect(answer.push(bytes('the EN')).text).toBe('the ');
    expect(answer.flush()).toBe('EN');
    expect(answer.emitted).toBe('the EN');
    expect(answer.kept).toEqual({ numTokens: 1, text: 'the EN' });
  });

  it('handles a stop string that is the whole answer', () => {
    const answer = new AnswerText(['END']);
    expect(answer.push(bytes('END'))).toEqual({ text: '', stop: 'END' });
    expect(answer.kept).toEqual({ numTokens: 0, text: '' });
  });
});
