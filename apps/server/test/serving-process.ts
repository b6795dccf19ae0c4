/** A server in a process of its own, for tests that kill it. Tells its parent the number of the engine's process. */
import { pino } from 'pino';
import { startServer } from '../src/index.js';

const write = (line: string) => {
  const { msg, enginePid } = JSON.parse(line);
  if (msg === 'engine ready') process.send!(enginePid);
};
const logger = pino({ level: 'info' }, { write });
await startServer({ model: process.env.CTKVR_TEST_MODEL!, port: 0, logger, load: { numThreads: 1 } });
