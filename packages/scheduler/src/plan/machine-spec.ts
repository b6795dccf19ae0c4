/** The machine that a plan is for, what of it was measured, and what is assumed where nothing was. */
import { checkOptions, type OptionChecks, takes } from '@ctkvr/core';

/** A card. */
export interface DeviceSpec {
  readonly name: string;
  /** Decimal gigabytes are 1e9 bytes. */
  readonly memoryBytes: number;
  /** Memory bandwidth as its maker states it. */
  readonly gigabytesPerSecond: number;
  /** What reads reach. Default: 0.87 of the maker's figure. */
  readonly reachedGigabytesPerSecond?: number;
}

/** The machine around the card. */
export interface HostSpec {
  readonly memoryBytes: number;
  /** What all cores together read, as `ctkvr doctor` measures it. */
  readonly gigabytesPerSecond: number;
  /** Default 32. */
  readonly cores?: number;
}

/** What was measured on the machine; each figure takes the place of an assumption. */
export interface Calibration {
  readonly deviceGigabytesPerSecond?: number;
  readonly hostGigabytesPerSecond?: number;
  /** As `HEAD_MICROSECONDS` says. */
  readonly cpuMicrosecondsPerHead?: number;
  /** One way between device and CPU. */
  readonly hopMicroseconds?: number;
}

/** Rates that times follow from. */
export interface MachineRates {
  readonly deviceBytesPerMs: number;
  readonly hostBytesPerMs: number;
  readonly hostCores: number;
  readonly cpuMicrosecondsPerHead: number;
  readonly hopMs: number;
}

/** Of the bandwidth that makers state, reads of large buffers reach .86 to .91 on the cards of known-cards.ts. */
const REACHED_SHARE = 0.87;
const DEFAULT_CORES = 32;
/** Assumed: a flag in pinned memory, seen by the other side. */
const HOP_MICROSECONDS = 10;
/**
 * Core-microseconds of the CPU's part of one KV head (union, score, select, attend): 3,500 candidates of 128 values. Measured with AVX-512 on
 * heads of 64 values, docs/results/2026-11-27-epyc-zen5-2-cores; test/plan/recorded-stages.test.ts has what it predicts of those results.
 */
export const HEAD_MICROSECONDS = 130;

const deviceChecks: OptionChecks<DeviceSpec> = {
  name: takes.text,
  memoryBytes: takes.number(1, 1e18),
  gigabytesPerSecond: takes.number(1e-3, 1e9),
  reachedGigabytesPerSecond: takes.optional(takes.number(1e-3, 1e9)),
};
const hostChecks: OptionChecks<HostSpec> = {
  memoryBytes: takes.number(1, 1e18),
  gigabytesPerSecond: takes.number(1e-3, 1e9),
  cores: takes.optional(takes.integer(1, 100_000)),
};
const calibrationChecks: OptionChecks<Calibration> = {
  deviceGigabytesPerSecond: takes.optional(takes.number(1e-3, 1e9)),
  hostGigabytesPerSecond: takes.optional(takes.number(1e-3, 1e9)),
  cpuMicrosecondsPerHead: takes.optional(takes.number(1e-3, 1e9)),
  hopMicroseconds: takes.optional(takes.number(0, 1e9)),
};

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkDevice(op: string, device: DeviceSpec): void {
  checkOptions(`${op}.device`, device, deviceChecks);
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkHost(op: string, host: HostSpec): void {
  checkOptions(`${op}.host`, host, hostChecks);
}

/** @throws {CtkvrError} CTKVR_INVALID_OPTION. */
export function checkCalibration(op: string, calibration: Calibration): void {
  checkOptions(`${op}.calibration`, calibration, calibrationChecks);
}

/** Returns measured rates where there are any, and assumed ones elsewhere. */
export function machineRates(device: DeviceSpec, host: HostSpec, calibration: Calibration): MachineRates {
  return {
    deviceBytesPerMs: (calibration.deviceGigabytesPerSecond ?? reachedGigabytesPerSecond(device)) * 1e6,
    hostBytesPerMs: (calibration.hostGigabytesPerSecond ?? host.gigabytesPerSecond) * 1e6,
    hostCores: host.cores ?? DEFAULT_CORES,
    cpuMicrosecondsPerHead: calibration.cpuMicrosecondsPerHead ?? HEAD_MICROSECONDS,
    hopMs: (calibration.hopMicroseconds ?? HOP_MICROSECONDS) / 1000,
  };
}

export function reachedGigabytesPerSecond(device: DeviceSpec): number {
  return device.reachedGigabytesPerSecond ?? device.gigabytesPerSecond * REACHED_SHARE;
}
