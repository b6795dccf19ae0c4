/** What `ctkvr doctor --calibrate` measured of this machine, kept in the cache folder for `ctkvr plan --host here`. */
import { randomUUID } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CtkvrError } from '@ctkvr/core';
import { cacheFolder } from '@ctkvr/model-runner';
import { outputError } from '../console-io.js';

export interface MachineCalibration {
  /** Raised when the meaning of a field changes. */
  readonly version: 1;
  readonly measuredAt: string;
  readonly processor: string;
  readonly memoryBytes: number;
  /** All threads together, reading. */
  readonly gigabytesPerSecond: number;
  readonly cores: number;
}

const NAME = 'calibration.json';
const REMEDY = 'run `ctkvr doctor --calibrate` first';

/** Replaces what was measured before; returns the file's path. @throws {CtkvrError} CTKVR_OUTPUT_FAILED, CTKVR_DISK_FULL. */
export async function writeCalibration(
  calibration: MachineCalibration,
  folder: string = cacheFolder(),
): Promise<string> {
  const path = join(folder, NAME);
  const unfinished = `${path}.${randomUUID()}`;
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(unfinished, `${JSON.stringify(calibration, null, 2)}\n`);
    await rename(unfinished, path);
    return path;
  } catch (error) {
    await rm(unfinished, { force: true }).catch(() => {});
    throw outputError(path, error as NodeJS.ErrnoException);
  }
}

/** @throws {CtkvrError} CTKVR_FILE_NOT_FOUND when nothing was measured, CTKVR_FILE_UNREADABLE when the file is no calibration. */
export async function readCalibration(folder: string = cacheFolder()): Promise<MachineCalibration> {
  const path = join(folder, NAME);
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const fields = { path, reason: cause.code ?? cause.message };
    throw new CtkvrError('CTKVR_FILE_NOT_FOUND', `this machine has not been measured: no file ${path}; ${REMEDY}`, {
      ...{ fields, cause },
    });
  });
  const found = parse(text);
  if (found !== null) return found;
  throw new CtkvrError('CTKVR_FILE_UNREADABLE', `${path} holds no measurement of this version; ${REMEDY}`, {
    fields: { path },
  });
}

function parse(text: string): MachineCalibration | null {
  try {
    const { version, memoryBytes, gigabytesPerSecond, cores, ...rest } = JSON.parse(text);
    const numbers = [memoryBytes, gigabytesPerSecond, cores];
    const isRight = version === 1 && numbers.every((value) => Number.isFinite(value) && value > 0);
    return isRight ? { version, memoryBytes, gigabytesPerSecond, cores, ...rest } : null;
  } catch {
    return null;
  }
}
