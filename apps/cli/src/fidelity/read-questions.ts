/** The questions of a dialogue, from a JSON file: `[{ "question": "…" }, …]`, asked in this order. */
import { CtkvrError } from '@ctkvr/core';
import { readDocuments } from '../read-document.js';

/**
 * Returns at least one question, none of them empty.
 * @throws {CtkvrError} what `readDocuments` throws; CTKVR_INVALID_OPTION when the file holds something else.
 */
export async function readQuestions(
  path: string,
  source: Parameters<typeof readDocuments>[1],
): Promise<readonly string[]> {
  const turns = parse(path, await readDocuments([path], source));
  if (!Array.isArray(turns) || turns.length === 0) throw invalid(path, 'it is no array of turns');
  return turns.map((turn: unknown, index) => {
    const question = typeof turn === 'object' && turn !== null && 'question' in turn ? turn.question : undefined;
    if (typeof question !== 'string' || question.trim() === '') {
      throw invalid(path, `turn ${index + 1} has no "question" with a text`);
    }
    return question;
  });
}

function parse(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(path, 'it is not JSON', cause);
  }
}

function invalid(path: string, why: string, cause?: unknown): CtkvrError {
  return new CtkvrError('CTKVR_INVALID_OPTION', `--turns takes a file like [{ "question": "…" }], ${path}: ${why}`, {
    cause,
    fields: { option: 'turns', path },
  });
}
