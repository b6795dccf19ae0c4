/** What self-tests found, and where it is remembered: a small file in the cache folder for each binary and processor. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { processorIdentity } from './processor-identity.js';

/** One day: the cause of a failure may be gone, such as a suspended machine. */
const FAILURE_LASTS_MS = 24 * 60 * 60 * 1000;

/** Of one kernel table. `why`: null when it passed, else what happened. */
export interface KernelVerdict {
  readonly why: string | null;
  /** Milliseconds since 1970. */
  readonly at: number;
}

export type KernelVerdicts = Readonly<Record<string, KernelVerdict>>;

/** Returns the file that remembers what this binary did on this processor. Reads the binary: some milliseconds. */
export function verdictsFile(binaryPath: string, cacheDir: string): string {
  const hash = createHash('sha256').update(readFileSync(binaryPath)).update(processorIdentity());
  return join(cacheDir, 'kernels', `${hash.digest('hex').slice(0, 32)}.json`);
}

/** Returns what is remembered and still counts; nothing of a file that is missing, unreadable or damaged. */
export function readVerdicts(file: string, now: number = Date.now()): KernelVerdicts {
  try {
    const stored = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Partial<KernelVerdict> | null>;
    const valid = Object.entries(stored).filter(
      (entry): entry is [string, KernelVerdict] =>
        typeof entry[1]?.at === 'number' &&
        (entry[1].why === null || (typeof entry[1].why === 'string' && now - entry[1].at < FAILURE_LASTS_MS)),
    );
    return Object.fromEntries(valid);
  } catch {
    return {};
  }
}

/** Remembers verdicts. If the cache cannot be written, the next process only tests again. */
export function writeVerdicts(file: string, verdicts: KernelVerdicts): void {
  const partial = `${file}.${randomUUID()}.partial`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(partial, JSON.stringify(verdicts));
    renameSync(partial, file);
  } catch {
    try {
      rmSync(partial, { force: true });
    } catch {
      // Nothing was written, or it cannot be taken back either.
    }
  }
}
