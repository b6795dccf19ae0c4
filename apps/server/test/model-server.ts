import type { Model } from '@ctkvr/model-runner';
import { pino } from 'pino';
import { type RunningServer, type StartServerOptions, startServer } from '../src/index.js';

/** A listening server with the model under test, as `test-model`, which logs nothing. */
export function startModelServer(
  model: Model | string,
  options: Partial<StartServerOptions> = {},
): Promise<RunningServer> {
  const logger = pino({ level: 'silent' });
  return startServer({ model, modelName: 'test-model', port: 0, logger, handleSignals: false, ...options });
}
