/**
 * Measures how fast this machine reads memory: every thread searches its own large buffer for a byte that is not there. Node does that
 * with the C library's vectorised memchr, which reads each byte once, writes nothing, and is far faster than memory. The best of some
 * passes counts: it is the limit that is asked for.
 */
import { Worker } from 'node:worker_threads';

/** Many times any cache's share of one core. */
const BUFFER_BYTES = 256 * 1024 * 1024;
const PASSES = 6;

export interface BandwidthOptions {
  /** Bytes that each thread reads a pass. Default 256 MiB. */
  readonly bufferBytes?: number;
  /** Default 6. */
  readonly passes?: number;
}

/** Runs in a worker: fills its buffer (so that pages exist), waits for the others, then times its passes. */
const workerSource = `
const { parentPort, workerData } = require('node:worker_threads');
const buffer = Buffer.alloc(workerData.bytes, 1);
parentPort.once('message', () => {
  for (let pass = 0; pass < workerData.passes; pass++) {
    const startedAt = process.hrtime.bigint();
    if (buffer.indexOf(2) !== -1) throw new Error('found a byte that was never written');
    parentPort.postMessage({ ns: Number(process.hrtime.bigint() - startedAt) });
  }
});
parentPort.postMessage('ready');
`;

export interface MemoryBandwidth {
  /** Decimal gigabytes a second, all threads together. */
  readonly gigabytesPerSecond: number;
  readonly numThreads: number;
}

/** Takes about a second; less with a smaller buffer and fewer passes, and says less then. */
export async function measureMemoryBandwidth(
  numThreads: number,
  { bufferBytes = BUFFER_BYTES, passes = PASSES }: BandwidthOptions = {},
): Promise<MemoryBandwidth> {
  const workers = Array.from(
    { length: numThreads },
    () => new Worker(workerSource, { eval: true, workerData: { bytes: bufferBytes, passes } }),
  );
  try {
    await Promise.all(workers.map((worker) => nextMessage(worker)));
    const timings = await Promise.all(workers.map((worker) => timePasses(worker, passes)));
    const rates = timings.map((ns) => bufferBytes / Math.min(...ns)); // bytes per ns = GB/s
    return { gigabytesPerSecond: rates.reduce((sum, rate) => sum + rate, 0), numThreads };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

function timePasses(worker: Worker, passes: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const ns: number[] = [];
    worker.on('message', (message: { ns: number }) => {
      ns.push(message.ns);
      if (ns.length === passes) resolve(ns);
    });
    worker.once('error', reject);
    worker.postMessage('go');
  });
}
