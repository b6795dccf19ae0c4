/** `kernels`: the kernels alone, with every instruction set. */
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { positiveInteger } from '../parse-options.js';
import { runHead } from '../run-head.js';
import { kernelsSuite } from '../suites/kernels.js';
import { type OutputFlags, outputResult, withOutputOptions } from './output-options.js';

interface KernelsFlags extends OutputFlags {
  readonly threads?: number;
  readonly rounds: number;
}

export function kernelsCommand(): Command {
  const command = new Command('kernels')
    .description('the kernels alone, with every instruction set of this machine, beside its limits')
    .option('--threads <count>', 'that work at once (default: those this machine really runs)', threadCount)
    .option('--rounds <count>', 'samples of each kernel', positiveInteger, 5)
    .action(async (flags: KernelsFlags) => {
      const head = await runHead();
      const { rounds, threads = head.machine.usableThreads } = flags;
      const onProgress = (line: string) => process.stderr.write(`${line}\n`);
      const findings = await kernelsSuite({ threads, rounds, onProgress });
      await outputResult({ suite: 'kernels', ...head, threads, rounds, ...findings }, flags);
    });
  return withOutputOptions(command);
}

/** With more threads than processors, waiting would be measured. */
function threadCount(value: string): number {
  const [threads, most] = [positiveInteger(value), availableParallelism()];
  if (threads > most) throw new InvalidArgumentError(`this machine runs ${most} at most`);
  return threads;
}
