import { expect, test } from 'vitest';
import { questions } from '../src/suites/questions.js';
import { toRow } from '../src/suites/same-bits.js';

const answer = (tokens: number[], distributions: string, mostInStep = 1) => ({ tokens, distributions, mostInStep });

test('answers are counted against those of the same question, round by round', () => {
  const expected = [answer([1, 2], 'a'), answer([3], 'b')];
  const answers = [answer([1, 2], 'a'), answer([3], 'c', 4), answer([1, 9], 'a'), answer([3], 'b')];
  expect(toRow({ threads: 2, clients: 8 }, answers, expected)).toEqual({
    threads: 2,
    clients: 8,
    mostInStep: 4,
    numAnswers: 4,
    sameTokens: 3,
    sameBits: 2,
  });
});

test('there are 49 questions, all different', () => {
  expect(new Set(questions).size).toBe(49);
});
