import { describe, expect, it } from 'vitest';
import { deviceCheck } from './device-choice.js';

describe('names of devices', () => {
  it.each(['auto', 'cpu', 'cuda', 'cuda:0', 'cuda:15'])('takes %s', (name) => {
    expect(deviceCheck.accepts(name)).toBe(true);
  });

  it.each([
    ['gpu', 'cuda'],
    ['NVIDIA', 'cuda'],
    ['cud', 'cuda'],
    ['CUDA', 'cuda'],
    ['cuda0', 'cuda:0'],
    ['cuda:01', 'cuda:1'],
    ['gpu:1', 'cuda:1'],
    ['2', 'cuda:2'],
    ['cpus', 'cpu'],
    ['automatic', 'auto'],
  ])('refuses %s and names %s', (name, nearest) => {
    expect(deviceCheck.accepts(name)).toBe(false);
    expect(deviceCheck.remedy?.(name)).toBe(`did you mean ${nearest}?`);
    expect(deviceCheck.accepts(nearest)).toBe(true);
  });

  it.each(['', 'cuda:', 'cuda:-1', 'metal', 'cuda:0 ', 0, null])('refuses %j', (name) => {
    expect(deviceCheck.accepts(name)).toBe(false);
  });
  it('has no advice for what is like nothing', () => {
    expect(deviceCheck.remedy?.('vulkan')).toBeUndefined();
    expect(deviceCheck.remedy?.(0)).toBeUndefined();
  });
});
