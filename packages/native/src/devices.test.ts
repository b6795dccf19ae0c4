import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { devicesOf } from './devices.js';

const card = {
  name: 'cuda:0',
  description: 'A card',
  computeCapability: '8.9',
  totalBytes: 24e9,
  freeBytes: 20e9,
};

describe('devicesOf', () => {
  it('says what the binding lists', () => {
    expect(devicesOf({ listDevices: () => ({ devices: [card], reason: null }) })).toEqual({
      devices: [card],
      reason: null,
      hasDriver: true,
    });
  });

  it.each([
    [
      "no CUDA driver: its library (libcuda.so.1, nvcuda.dll) is not found. Install NVIDIA's driver, or use the CPU engine",
      false,
    ],
    ['no CUDA driver: CTKVR_CUDA_DRIVER: no such file', true],
    ['the CUDA driver is of version 11040, 12000 or newer is needed', true],
  ])('keeps the reason, and whether there is a driver: %s', (reason, hasDriver) => {
    expect(devicesOf({ listDevices: () => ({ devices: [], reason }) })).toEqual({ devices: [], reason, hasDriver });
  });

  it('knows a missing library by the words that the crate has for it', () => {
    const source = (file: string) =>
      readFileSync(new URL(`../../../rust-kernels/crates/ctkvr-cuda/src/${file}`, import.meta.url), 'utf8');
    expect(source('error.rs')).toContain('#[error("no CUDA driver: {reason}.');
    expect(source('driver.rs')).toContain('"its library (libcuda.so.1, nvcuda.dll) is not found"');
  });

  it('takes a binary of before there were devices, and one that fails', () => {
    expect(devicesOf({})).toMatchObject({ devices: [], reason: expect.stringContaining('without'), hasDriver: false });
    const listDevices = () => {
      throw new Error('driver error 999');
    };
    expect(devicesOf({ listDevices })).toEqual({ devices: [], reason: 'driver error 999', hasDriver: true });
  });
});
