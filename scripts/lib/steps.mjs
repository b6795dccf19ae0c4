// A preparation step that runs only when its inputs changed or its result is gone. The stamp is written after the step succeeded, so
// an interrupted step runs again.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * @typedef {object} Step
 * @property {string} stamp absolute path of the file that remembers the digest of the last success
 * @property {() => string} digest the content that decides
 * @property {() => boolean} isPresent whether the result is there
 * @property {() => Promise<void>} run does the work, or throws
 */

/** Whether the step's result is there and made from these inputs. @param {Step} step */
export function isDone(step) {
  return step.isPresent() && readStamp(step.stamp) === step.digest();
}

/** Does the step if it is not done. What counts is what was there when it began: an edit in the meantime asks for another run. @param {Step} step */
export async function ensure(step) {
  if (isDone(step)) return;
  const digest = step.digest();
  rmSync(step.stamp, { force: true });
  await step.run();
  mkdirSync(dirname(step.stamp), { recursive: true });
  writeFileSync(step.stamp, digest);
}

/** @param {string} path */
function readStamp(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
