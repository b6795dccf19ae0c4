/** The small native binary in JavaScript, `fake-native.cjs`: what it is for is said there. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** For CTKVR_NATIVE_PATH, before anything of this process loads the native binary. */
export const fakeNativePath = fileURLToPath(new URL('../fake-native.cjs', import.meta.url));

/** As `NativeDeviceList` of @ctkvr/native, which this package does not depend on. */
export interface FakeDeviceList {
  readonly devices: readonly {
    readonly name: string;
    readonly description: string;
    readonly computeCapability: string;
    readonly totalBytes: number;
    readonly freeBytes: number;
    readonly unusable?: string | null;
  }[];
  readonly reason?: string | null;
}

/** A device that can be used. */
export const fakeCard = {
  name: 'cuda:0',
  description: 'A card',
  computeCapability: '8.9',
  totalBytes: 24e9,
  freeBytes: 20e9,
};

export interface FakeNativeControl {
  devices: FakeDeviceList;
  refusals: Record<string, { readonly code: string; readonly message: string }>;
  loseAtStep: number;
  stepMs: number;
  loads: { readonly device?: string; readonly kvBudgetBytes?: number; readonly hybridLayers?: number }[];
}

/** What the binary of this process does; the loader gets the same one. */
export function fakeNativeControl(): FakeNativeControl {
  return (createRequire(import.meta.url)(fakeNativePath) as { control: FakeNativeControl }).control;
}
