// One preparation at a time per checkout: a folder that holds the owner's process id. A lock whose owner is gone is taken over.
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { say } from './messages.mjs';

const POLL_MS = 250;
/** A lock without a process id is being written now, or its owner died between two system calls. */
const UNNAMED_MS = 5_000;

/**
 * Runs `work` while holding the lock.
 * @template T
 * @param {string} path the lock's folder
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(path, work) {
  await acquire(path);
  const release = () => rmSync(path, { recursive: true, force: true });
  const stop = (/** @type {NodeJS.Signals} */ signal) => {
    release();
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  };
  process.on('SIGINT', stop).on('SIGTERM', stop);
  try {
    return await work();
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
    release();
  }
}

/** @param {string} path */
async function acquire(path) {
  mkdirSync(dirname(path), { recursive: true });
  for (let announced = false; ; ) {
    try {
      mkdirSync(path);
      writeFileSync(join(path, 'pid'), String(process.pid));
      return;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    const owner = ownerOf(path);
    if (owner === 'gone') {
      rmSync(path, { recursive: true, force: true });
      continue;
    }
    if (!announced) say(`another command (process ${owner}) prepares this checkout; waiting for it`);
    announced = true;
    await delay(POLL_MS);
  }
}

/** @param {string} path @returns {number | 'unnamed' | 'gone'} */
function ownerOf(path) {
  try {
    const pid = Number(readFileSync(join(path, 'pid'), 'utf8'));
    if (pid > 0) {
      process.kill(pid, 0);
      return pid;
    }
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code === 'ESRCH') return 'gone';
    if (code === 'EPERM') return 'unnamed'; // somebody else's living process
  }
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && Date.now() - stat.mtimeMs < UNNAMED_MS ? 'unnamed' : 'gone';
}
