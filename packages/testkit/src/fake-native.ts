/** The small native binary in JavaScript, `fake-native.cjs`: what it is for is said there. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { NativeDeviceList, NativeLoadOptions } from '@ctkvr/native';

/** For CTKVR_NATIVE_PATH, before anything of this process loads the native binary. */
export const fakeNativePath = fileURLToPath(new URL('../fake-native.cjs', import.meta.url));

export interface FakeNativeControl {
  devices: NativeDeviceList;
  refusals: Record<string, { readonly code: string; readonly message: string }>;
  loseAtStep: number;
  stepMs: number;
  loads: NativeLoadOptions[];
}

/** What the binary of this process does; the loader gets the same one. */
export function fakeNativeControl(): FakeNativeControl {
  return (createRequire(import.meta.url)(fakeNativePath) as { control: FakeNativeControl }).control;
}
