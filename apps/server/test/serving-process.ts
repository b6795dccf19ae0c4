/**
 * A server in a process of its own, for tests that kill it: see server-process.ts. Its argument is the options of startServer as JSON. Tells its
 * parent where it listens, and the number of the engine's process.
 */
import { pino } from 'pino';
import { startServer } from '../src/index.js';

let enginePid = 0;
const write = (line: string) => {
  const event = JSON.parse(line);
  if (event.msg === 'engine ready') enginePid = event.enginePid;
  if (event.level >= 50) process.stderr.write(line);
};
const logger = pino({ level: 'info' }, { write });
const options = JSON.parse(process.argv[2]!);
const { url } = await startServer({ port: 0, logger, load: { numThreads: 1 }, ...options });
process.send!({ url, enginePid });
