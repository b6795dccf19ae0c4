/** What devices a binding finds, whatever its age and whatever goes wrong. */
import type { NativeBinding, NativeDevice } from './binding.js';

export interface DeviceReport {
  readonly devices: readonly NativeDevice[];
  /** Why there are none; null where there are some. */
  readonly reason: string | null;
  /** False where nothing suggests that a device was meant to be used here: there is no driver's library, as on most machines. */
  readonly hasDriver: boolean;
}

/** How `listDevices` begins its reason where the driver's library is not found (ctkvr-cuda, driver.rs). */
const NO_LIBRARY = 'no CUDA driver: its library ';

/** Returns what the driver says now; never throws. */
export function devicesOf(binding: Pick<NativeBinding, 'listDevices'>): DeviceReport {
  if (binding.listDevices === undefined) {
    return { devices: [], reason: 'this native engine was built without devices', hasDriver: false };
  }
  try {
    const { devices, reason } = binding.listDevices();
    if (devices.length > 0) return { devices, reason: null, hasDriver: true };
    const why = reason ?? 'the driver lists none';
    return { devices, reason: why, hasDriver: !why.startsWith(NO_LIBRARY) };
  } catch (error) {
    return { devices: [], reason: error instanceof Error ? error.message : String(error), hasDriver: true };
  }
}
