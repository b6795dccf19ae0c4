/** Run by a test as a process of its own: says which kernels it uses, and another thread of it, or why it uses none. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { findBinding, loadBinding, openBinding } from '../src/index.js';

function say(what: unknown): void {
  process.stdout.write(JSON.stringify(what));
}

const askFastest = `
const { parentPort, workerData } = require('node:worker_threads');
parentPort.postMessage(require(workerData).fastestKernels());
`;

try {
  const { isa, availableIsas } = (await openBinding()).buildInfo();
  const worker = new Worker(askFastest, { eval: true, workerData: findBinding().path });
  const [workerIsa] = await once(worker, 'message');
  say({ isa, workerIsa, availableIsas });
} catch (error) {
  // The other way to open it refuses alike.
  const { code, message } = error as { code: string; message: string };
  let again = '';
  try {
    loadBinding();
  } catch (second) {
    again = (second as { code: string }).code;
  }
  say({ code, message, again });
}
