/** Entry of a contender's child process: `contender-process.js ctkvr`, or `contender-process.js node-llama-cpp <its entry module>`. */
import { pathToFileURL } from 'node:url';
import { toErrorData } from '@ctkvr/core';
import type { Contender } from './contender.js';
import type { ContenderAnswer, ContenderCall } from './contender-messages.js';
import { CtkvrContender } from './ctkvr-contender.js';
import type { PeerModule } from './peer-api.js';
import { PeerContender } from './peer-contender.js';

/** `discard` removes what would outlive the process. */
type Discardable = Contender & { discard(): void };

const [kind, peerEntry] = process.argv.slice(2);
const contender: Discardable =
  kind === 'ctkvr'
    ? new CtkvrContender()
    : new PeerContender((await import(pathToFileURL(peerEntry!).href)) as PeerModule);

process.on('message', async (call: ContenderCall) => {
  process.send!(await answer(call));
});
// These reach the whole process group; the parent decides, and its end shows as a closed channel.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});
// The parent closed the channel, or died. Native threads may be in the middle of a long prefill, which no orderly end would wait for.
process.on('disconnect', () => {
  contender.discard();
  process.kill(process.pid, 'SIGKILL');
});

async function answer({ method, args }: ContenderCall): Promise<ContenderAnswer> {
  try {
    const methods = contender as unknown as Partial<Record<string, (...args: readonly unknown[]) => Promise<unknown>>>;
    if (methods[method] === undefined) throw new Error(`${kind} has no ${method}`);
    return { value: await methods[method](...args) };
  } catch (error) {
    return { error: toErrorData(error) };
  }
}
