import type { NativeDevice, NativeDeviceList } from '@ctkvr/native';
import { describe, expect, it } from 'vitest';
import { chooseDevice } from './choose-device.js';

const card = (index: number, more: Partial<NativeDevice> = {}): NativeDevice => ({
  name: `cuda:${index}`,
  description: `Card ${index}`,
  computeCapability: '8.9',
  totalBytes: 24e9,
  freeBytes: 20e9,
  ...more,
});
const old = card(0, { unusable: 'it is of compute capability 7.0, 8.0 or newer is needed' });
const on = (devices: readonly NativeDevice[], reason: string | null = null) => ({
  listDevices: (): NativeDeviceList => ({ devices, reason }),
});
const noLibrary = on(
  [],
  "no CUDA driver: its library (libcuda.so.1, nvcuda.dll) is not found. Install NVIDIA's driver",
);
const oldDriver = on([], 'the CUDA driver is of version 11040, 12000 or newer is needed:\nupdate it.');
const cpu = { name: 'cpu', mayFallBack: false, warning: null };

describe('chooseDevice', () => {
  it('does not ask the driver for the CPU', () => {
    const listDevices = () => {
      throw new Error('asked');
    };
    expect(chooseDevice({ listDevices }, 'cpu')).toEqual(cpu);
  });

  it('takes the first that can be used, or the one that is named', () => {
    const two = on([old, card(1), card(2)]);
    expect(chooseDevice(two, 'auto')).toEqual({ name: 'cuda:1', mayFallBack: true, warning: null });
    expect(chooseDevice(two, 'cuda')).toEqual({ name: 'cuda:1', mayFallBack: false, warning: null });
    expect(chooseDevice(two, 'cuda:2')).toEqual({ name: 'cuda:2', mayFallBack: false, warning: null });
  });

  it('auto says nothing where no driver is installed, and in a binary without devices', () => {
    expect(chooseDevice(noLibrary, 'auto')).toEqual(cpu);
    expect(chooseDevice({}, 'auto')).toEqual(cpu);
  });

  it.each([
    ['an old driver', oldDriver, /version 11040, 12000 or newer is needed: update it\. `ctkvr doctor`/],
    ['an old card', on([old]), /cuda:0 \(Card 0\) cannot be used: it is of compute capability 7\.0/],
  ])('auto uses the CPU and says why in one line: %s', (_, binding, why) => {
    const chosen = chooseDevice(binding, 'auto');
    expect(chosen).toEqual({ ...cpu, warning: expect.stringMatching(why) });
    expect(chosen.warning).not.toContain('\n');
  });

  it.each([
    ['cuda', noLibrary, /its library \(libcuda\.so\.1/],
    ['cuda:0', noLibrary, /its library \(libcuda\.so\.1/],
    ['cuda', {}, /built without devices/],
    ['cuda', on([old]), /cuda:0 \(Card 0\) cannot be used: it is of compute capability/],
    ['cuda:0', on([old, card(1)]), /cuda:0 \(Card 0\) cannot be used/],
    ['cuda:7', on([card(0), card(1)]), /no device cuda:7; there are: cuda:0 \(Card 0\), cuda:1 \(Card 1\)/],
  ] as const)('%s refuses what is not to be had, and says what is missing', (choice, binding, message) => {
    expect(() => chooseDevice(binding, choice)).toThrowError(
      expect.objectContaining({
        code: 'CTKVR_DEVICE_UNAVAILABLE',
        message: expect.stringMatching(message),
        fields: expect.objectContaining({ device: choice }),
      }),
    );
  });
});
