/** Models in processes of their own: one that is loaded now, or several that are loaded when they are asked for. */
import { stat } from 'node:fs/promises';
import { freemem } from 'node:os';
import { CtkvrError } from '@ctkvr/core';
import { type LoadModelOptions, resolveModelFile } from '@ctkvr/model-runner';
import type { Logger } from 'pino';
import type { ChatEngine } from '../chat-engine.js';
import type { EngineSettings } from '../open-engine.js';
import { storedNameOf } from '../sessions/open-sessions.js';
import { type MemoryShare, memoryShares } from './memory-shares.js';
import { ModelPool } from './model-pool.js';
import { ProcessEngine } from './process-engine.js';
import type { RestartLimits } from './restart-policy.js';

/** The rest is for other programs. */
const MEMORY_SHARE = 0.9;

export interface NamedModel {
  /** Path, catalogue name, or `owner/repo:file`. */
  readonly model: string;
  /** The name clients send. */
  readonly name: string;
}

export interface EnginesOptions {
  readonly models: readonly NamedModel[];
  /** Of every model. */
  readonly settings: Omit<EngineSettings, 'modelId' | 'storedName'>;
  /** The callbacks and the signal end with the start. */
  readonly load: Omit<LoadModelOptions, 'contextLength'>;
  /** Bytes that loaded models may need together. Default: nine tenths of what is free. Without effect for one model. */
  readonly memoryBytes?: number | undefined;
  /** Default: never. */
  readonly unloadAfterMs?: number | undefined;
  /** Requests that may wait for models to be loaded. */
  readonly maxWaiting: number;
  readonly logger: Logger;
  readonly limits?: RestartLimits | undefined;
  /** As `SupervisedOptions` has it. */
  readonly silenceMs?: number | undefined;
}

export interface StartedEngines {
  readonly engines: readonly ChatEngine[];
  /** Ends their processes. */
  readonly close: () => Promise<void>;
}

/**
 * @throws {CtkvrError} what `resolveModelFile` throws for any of them; for one model what loadModel throws, too. Several are looked for and
 * downloaded now, and loaded later.
 */
export async function startEngines(options: EnginesOptions): Promise<StartedEngines> {
  const { models, settings, logger, limits, silenceMs, maxWaiting, unloadAfterMs = null } = options;
  const { signal = new AbortController().signal, onProgress, onDownloadProgress, ...load } = options.load;
  const paths: string[] = [];
  for (const { model } of models) {
    paths.push(await resolveModelFile(model, { onProgress: onDownloadProgress, signal }));
  }
  const isOne = models.length === 1;
  const budgetBytes = options.memoryBytes ?? Math.floor(MEMORY_SHARE * availableBytes());
  const shares = isOne ? [wholeMachine] : await sharesOf(paths, budgetBytes, load.sessionMemoryBytes);
  const storedNames = storedNamesOf(models, paths);
  const pool = new ModelPool({ budgetBytes, unloadAfterMs, maxWaiting, logger });
  const engines = models.map(({ name }, index) => {
    const { neededBytes, sessionMemoryBytes } = shares[index]!;
    return new ProcessEngine({
      ...settings,
      modelId: name,
      path: paths[index]!,
      storedName: storedNames[index]!,
      load: sessionMemoryBytes === null ? load : { ...load, sessionMemoryBytes },
      neededBytes,
      pool,
      logger,
      limits,
      silenceMs,
      onProgress: isOne ? onProgress : undefined,
    });
  });
  try {
    if (isOne) (await pool.use(engines[0]!, signal))();
  } catch (error) {
    await pool.close();
    if (signal.aborted) throw abortedLoad(signal.reason);
    throw error;
  }
  return { engines, close: () => pool.close() };
}

/**
 * What the session store calls each model: its file's name. Of files with the same name the first keeps that, so that what it read in earlier
 * runs is found; the others have the name that clients send beside it.
 */
function storedNamesOf(models: readonly NamedModel[], paths: readonly string[]): string[] {
  const fileNames = paths.map(storedNameOf);
  return models.map(({ name }, index) => {
    const fileName = fileNames[index]!;
    return fileNames.indexOf(fileName) === index ? fileName : `${fileName} (${name})`;
  });
}

function abortedLoad(cause: unknown): CtkvrError {
  if (CtkvrError.isInstance(cause)) return cause;
  return new CtkvrError('CTKVR_ABORTED', 'loading the model was cancelled', { cause });
}

/** One model may take what it finds, as loadModel decides. */
const wholeMachine = { neededBytes: 0, sessionMemoryBytes: null };

async function sharesOf(
  paths: readonly string[],
  budgetBytes: number,
  sessionMemoryBytes: number | undefined,
): Promise<MemoryShare[]> {
  const weightsBytes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  return memoryShares(weightsBytes, budgetBytes, sessionMemoryBytes);
}

/** What this process and its children may still allocate: of the machine, or of the group that they run in. */
function availableBytes(): number {
  const limit = process.constrainedMemory() ?? 0;
  return limit > 0 ? Math.min(freemem(), limit) : freemem();
}
