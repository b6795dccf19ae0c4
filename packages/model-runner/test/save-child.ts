/**
 * A process of its own for the tests of saves under fault. Arguments: forever <snapshot> <snapshot> <path>, which saves the two sessions
 * over the file in turn, a line on stdout before each save and after it; or once <snapshot> <path>, which saves one, prints what came of it
 * and how many tokens the session gives afterwards, as JSON.
 */
import { CtkvrError } from '@ctkvr/core';
import { loadModel } from '../src/index.js';
import { withFileLock } from '../src/model-files/index.js';

const [command, ...paths] = process.argv.slice(2);
const model = await loadModel(process.env.CTKVR_TEST_MODEL!, { numThreads: 1, mapWeights: true });
const path = paths.pop()!;
const sessions = await Promise.all(paths.map((from) => model.restoreSession(from)));
if (command === 'forever') {
  for (let i = 0; ; i = (i + 1) % sessions.length) {
    process.stdout.write('saving\n');
    await sessions[i]!.save(path);
    process.stdout.write('saved\n');
  }
}
const [session] = sessions;
await withFileLock(path, {}, async () => {}); // its library listens to signals: a file that grows too large must be an error still
let error: unknown = null;
await session!.save(path).catch((thrown) => {
  error = CtkvrError.isInstance(thrown)
    ? { code: thrown.code, message: thrown.message, fields: thrown.fields }
    : thrown;
});
let numTokens = 0;
for await (const _ of session!.generate({ maxTokens: 4, ignoreEndOfTurn: true })) numTokens += 1;
process.stdout.write(JSON.stringify({ error, numTokens }));
await model.close();
