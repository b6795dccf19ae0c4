import type { Model } from '@ctkvr/model-runner';
import { pino } from 'pino';
import { afterAll, beforeAll, describe } from 'vitest';
import { type RunningServer, type StartServerOptions, startServer } from '../src/index.js';

/** A listening server with the model under test, as `test-model`, which logs nothing. */
export function startModelServer(
  model: Model | string,
  options: Partial<StartServerOptions> = {},
): Promise<RunningServer> {
  const logger = pino({ level: 'silent' });
  return startServer({ model, modelName: 'test-model', port: 0, logger, handleSignals: false, ...options });
}

const modelPath = process.env.CTKVR_TEST_MODEL;

/** Tests with such a server, of the model that CTKVR_TEST_MODEL names; skipped where it names none. */
export function describeWithServer(name: string, timeout: number, define: (server: () => RunningServer) => void): void {
  const title = `${name}${modelPath ? '' : ' (skipped: CTKVR_TEST_MODEL names no GGUF file)'}`;
  describe.skipIf(!modelPath)(title, { timeout }, () => {
    let server: RunningServer | null = null;
    beforeAll(async () => {
      server = await startModelServer(modelPath!);
    }, 120_000);
    afterAll(async () => {
      await server?.close();
    });
    define(() => {
      if (server === null) throw new Error('the server starts before its tests');
      return server;
    });
  });
}
