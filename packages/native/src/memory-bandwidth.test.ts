import { expect, test } from 'vitest';
import { measureMemoryBandwidth } from './memory-bandwidth.js';

test('memory bandwidth is measured, in a plausible unit', async () => {
  for (const options of [{}, { bufferBytes: 1 << 24, passes: 2 }]) {
    const { gigabytesPerSecond, numThreads } = await measureMemoryBandwidth(1, options);
    expect(numThreads).toBe(1);
    expect(gigabytesPerSecond).toBeGreaterThan(0.1);
    expect(gigabytesPerSecond).toBeLessThan(10_000);
  }
});
