/** How long a token takes where the cores are shared: alone, beside a second process of the same, and beside busy loops. The three alternate. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { significant } from '@ctkvr/evaluation';
import { ContenderClient } from '../contenders/contender-client.js';
import { promptTokens } from '../prompt.js';
import { sampleStatistics } from '../sample-statistics.js';
import { inTurns } from './in-turns.js';
import type { Beside, SharedCoresRow } from './shared-cores-result.js';

/** Tokens of a turn. */
const NUM_TOKENS = 64;

export interface SharedCoresOptions {
  readonly modelPath: string;
  readonly context: number;
  readonly rounds: number;
  /** Busy loops that run beside a turn. */
  readonly numLoops: number;
  readonly onProgress: (line: string) => void;
}

export async function sharedCoresSuite(options: SharedCoresOptions): Promise<SharedCoresRow[]> {
  await using first = await prefilled(options);
  await using second = await prefilled(options);
  let threads = 0;
  const meanOf = async (client: ContenderClient) => {
    const sample = await client.decode(NUM_TOKENS);
    threads = sample.threads;
    return sample.msPerToken.reduce((sum, ms) => sum + ms, 0) / sample.msPerToken.length;
  };
  const turns: Record<Beside, () => Promise<number[]>> = {
    nothing: async () => [await meanOf(first)],
    another: () => Promise.all([meanOf(first), meanOf(second)]),
    'busy loops': async () => {
      const loops = Array.from({ length: options.numLoops }, startLoop);
      try {
        return [await meanOf(first)];
      } finally {
        await Promise.all(loops.map(stopLoop));
      }
    },
  };
  const { rounds, onProgress } = options;
  return toSharedCoresRows(await inTurns(turns, { rounds, warmUp: true, onProgress }), threads);
}

/** @param samples milliseconds a token of each turn, by what ran beside it. */
export function toSharedCoresRows(
  samples: Readonly<Record<string, readonly (readonly number[])[]>>,
  threads: number,
): SharedCoresRow[] {
  const statistics = (beside: string) => sampleStatistics(samples[beside]!.flat());
  const alone = statistics('nothing').median;
  return Object.keys(samples).map((beside) => {
    const { median, p10, p90, numSamples } = statistics(beside);
    return {
      beside: beside as Beside,
      threads,
      msPerToken: { median: significant(median), p10: significant(p10), p90: significant(p90), numSamples },
      ratioToAlone: significant(median / alone),
    };
  });
}

async function prefilled({ modelPath, context }: SharedCoresOptions): Promise<ContenderClient> {
  const client = await ContenderClient.start('ctkvr');
  await client.open({ modelPath, contextLength: context + NUM_TOKENS + 2 });
  await client.configure({ method: 'ctkvr' });
  await client.prefill(await promptTokens(client, context));
  return client;
}

function startLoop(): ChildProcess {
  return spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' });
}

async function stopLoop(loop: ChildProcess): Promise<void> {
  const exited = once(loop, 'exit');
  loop.kill('SIGKILL');
  await exited;
}
