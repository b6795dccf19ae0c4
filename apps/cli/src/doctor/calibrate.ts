/** Measures what `ctkvr plan --host here` needs of this machine. */
import { availableParallelism, cpus, totalmem } from 'node:os';
import { measureMemoryBandwidth } from '@ctkvr/native';
import { type MachineCalibration, writeCalibration } from '../plan/calibration-file.js';
import type { Diagnosis } from './diagnosis.js';

/** What was measured, and where it is kept. */
export interface CalibrationReport {
  readonly path: string;
  readonly calibration: MachineCalibration;
}

/** Reads memory for about a second with all threads, longer than the diagnosis does, and keeps the result. */
export async function calibrate({
  processor,
  memory,
}: Pick<Diagnosis, 'processor' | 'memory'>): Promise<CalibrationReport> {
  const cores = processor.usableThreads || availableParallelism();
  const { gigabytesPerSecond } = await measureMemoryBandwidth(cores);
  const calibration: MachineCalibration = {
    version: 1,
    measuredAt: new Date().toISOString(),
    processor: cpus()[0]?.model.trim() || processor.name,
    memoryBytes: memory.limitBytes ?? totalmem(),
    gigabytesPerSecond: Math.round(gigabytesPerSecond * 10) / 10,
    cores,
  };
  return { path: await writeCalibration(calibration), calibration };
}

export function describeCalibration({ path, calibration }: CalibrationReport): string {
  const { gigabytesPerSecond, cores } = calibration;
  return `\nMeasured for \`ctkvr plan --host here\`: ${gigabytesPerSecond} GB/s by ${cores} threads, kept in ${path}\n`;
}
