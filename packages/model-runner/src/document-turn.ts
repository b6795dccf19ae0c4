/** The conversation that asks a question of a document. */

import { CtkvrError, checkOptions, takes } from '@ctkvr/core';

const turnChecks = { document: takes.text, question: takes.text, questionFirst: takes.optional(takes.boolean) };

/**
 * Text of the user's turn. The question comes last unless `questionFirst`: then it frames the reading, and is repeated at
 * the end. @throws {CtkvrError} CTKVR_INVALID_OPTION for an empty question.
 */
export function documentTurn(input: {
  readonly document: string;
  readonly question: string;
  readonly questionFirst?: boolean;
}): string {
  checkOptions('documentTurn', input, turnChecks);
  const document = input.document.trim();
  const question = input.question.trim();
  checkQuestion(question);
  return input.questionFirst ? `${question}\n\n${document}\n\n${question}` : `${document}\n\n${question}`;
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION when there is nothing but white space. */
export function checkQuestion(question: string): void {
  if (question.trim() !== '') return;
  throw new CtkvrError('CTKVR_INVALID_OPTION', 'the question is empty: say what to ask', {
    fields: { option: 'question' },
  });
}

/** Number of leading tokens that `a` and `b` share. */
export function commonPrefixLength(a: Int32Array, b: Int32Array): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}
