/** What was measured, on what, in a few words: the head of every table. */
import { countOf } from '@ctkvr/core';
import type { ArithmeticPeak } from '../arithmetic-peak.js';
import type { Machine } from '../machine.js';
import type { SuiteResult } from '../suites/result.js';

/** Returns suite, model, rounds and commit. */
export function describeRun(result: SuiteResult): string {
  const { suite, rounds, commit } = result;
  const model = 'model' in result ? [result.model.name] : [];
  return `${suite}: ${[...model, `${rounds} rounds`, ...(commit === null ? [] : [`commit ${commit}`])].join(', ')}`;
}

/** Returns processor, threads, instruction set and limits. Results of an earlier day have no arithmetic peak. */
export function describeMachineShortly(machine: Partial<Pick<Machine, 'arithmetic'>> & Machine): string {
  const { cpu, usableThreads, isa, memory, arithmetic, loadAverage } = machine;
  return [
    cpu,
    countOf(usableThreads, 'thread'),
    isa,
    `${memory.bandwidthGBps} GB/s read`,
    ...(arithmetic == null ? [] : [arithmeticText(arithmetic)]),
    `load ${loadAverage} at the start`,
  ].join(', ');
}

/** Returns the peak of f32, and of bf16 where there is one. */
export function arithmeticText({ gflops, isa, bf16Gflops }: ArithmeticPeak): string {
  return `${gflops} GFLOP/s f32 (${isa})${bf16Gflops === null ? '' : `, ${bf16Gflops} bf16`}`;
}
