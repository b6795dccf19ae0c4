import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { readQuestions } from '../src/fidelity/read-questions.js';
import { temporaryFolder } from './temporary-folder.js';

async function read(text: string): Promise<readonly string[]> {
  const path = join(await temporaryFolder(), 'turns.json');
  await writeFile(path, text);
  return await readQuestions(path, { stdin: Readable.from([]), signal: new AbortController().signal });
}

it('reads questions in their order', async () => {
  expect(await read('[{ "question": "One?" }, { "question": "Two?" }]')).toEqual(['One?', 'Two?']);
});

it.each([
  ['[{ "question": "One?" ', /is not JSON/],
  ['{ "question": "One?" }', /no array of turns/],
  ['[]', /no array of turns/],
  ['[{ "question": "One?" }, "Two?"]', /turn 2 has no "question"/],
  ['[{ "question": " " }]', /turn 1 has no "question"/],
])('%s is refused', async (text, message) => {
  await expect(read(text)).rejects.toMatchObject({
    code: 'CTKVR_INVALID_OPTION',
    message: expect.stringMatching(message),
  });
});
