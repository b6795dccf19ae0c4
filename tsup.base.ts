import type { Options } from 'tsup';

/** Shared build of every package: one ESM entry with declarations and source maps. */
export const base: Options = {
  entry: ['src/index.ts'],
  format: 'esm',
  target: 'node20',
  dts: true,
  sourcemap: true,
  clean: true,
};
