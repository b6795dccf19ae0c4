/** Which device a model is loaded on: what was asked for, beside what this machine has. */
import { CtkvrError, type DeviceChoice } from '@ctkvr/core';
import { type DeviceReport, devicesOf, type NativeBinding, type NativeDevice } from '@ctkvr/native';

export interface ChosenDevice {
  /** 'cpu', or what the engine calls it: 'cuda:0'. */
  readonly name: string;
  /** Whether the CPU is used where the device then does not work. */
  readonly mayFallBack: boolean;
  /** Why the CPU is used although a device could be meant, one line for the user; null where there is nothing to say. */
  readonly warning: string | null;
}

const CPU: ChosenDevice = { name: 'cpu', mayFallBack: false, warning: null };

/**
 * Asks the driver only when something else than the CPU is asked for.
 * @throws {CtkvrError} CTKVR_DEVICE_UNAVAILABLE when a device is asked for that is not there, or cannot be used.
 */
export function chooseDevice(binding: Pick<NativeBinding, 'listDevices'>, choice: DeviceChoice): ChosenDevice {
  if (choice === 'cpu') return CPU;
  const report = devicesOf(binding);
  if (choice.startsWith('cuda:')) return { ...CPU, name: usable(report, choice).name };
  const first = report.devices.find(isUsable);
  if (first !== undefined) return { ...CPU, name: first.name, mayFallBack: choice === 'auto' };
  const why = whyNone(report);
  if (choice === 'cuda') throw unavailable(choice, why);
  return { ...CPU, warning: report.hasDriver ? fallbackWarning(why) : null };
}

/** One line that says that the CPU is used, and why. */
export function fallbackWarning(why: string): string {
  const line = why.replaceAll(/\s*\n\s*/g, ' ').replace(/\.$/, '');
  return `CTkvr uses the CPU, not a device: ${line}. \`ctkvr doctor\` says more, the device 'cpu' stops this message`;
}

function isUsable({ unusable }: NativeDevice): boolean {
  return (unusable ?? null) === null;
}

function usable({ devices, reason }: DeviceReport, name: string): NativeDevice {
  const device = devices.find((one) => one.name === name);
  if (device === undefined) {
    const there = devices.map((one) => `${one.name} (${one.description})`).join(', ');
    throw unavailable(name, reason ?? `there is no device ${name}; there are: ${there}`);
  }
  if (!isUsable(device)) throw unavailable(name, whyNot(device));
  return device;
}

function whyNone({ devices, reason }: DeviceReport): string {
  return reason ?? devices.map(whyNot).join('; ');
}

function whyNot({ name, description, unusable }: NativeDevice): string {
  return `${name} (${description}) cannot be used: ${unusable}`;
}

function unavailable(device: string, why: string): CtkvrError {
  return new CtkvrError('CTKVR_DEVICE_UNAVAILABLE', why, {
    fields: { device, reason: why },
    remedy: "load the model with device 'cpu', or with 'auto', which uses the CPU where there is no device",
  });
}
