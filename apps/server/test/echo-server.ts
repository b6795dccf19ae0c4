import { pino } from 'pino';
import { type ListenOptions, listen, type RunningServer } from '../src/index.js';
import { EchoEngine } from './echo-engine.js';

/** A listening server without a model, which logs nothing. */
export async function startEchoServer(
  options: ListenOptions = {},
): Promise<{ readonly engine: EchoEngine; readonly server: RunningServer }> {
  const engine = new EchoEngine();
  const logger = pino({ level: 'silent' });
  return { engine, server: await listen(engine, { port: 0, handleSignals: false, logger, ...options }) };
}
