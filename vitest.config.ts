import { defineConfig } from 'vitest/config';

// The source condition makes a test of one package read its siblings' src, never a stale dist.
export default defineConfig({
  resolve: { conditions: ['@ctkvr/source'] },
  ssr: { resolve: { conditions: ['@ctkvr/source'], externalConditions: ['@ctkvr/source'] } },
  test: {
    include: ['{packages,apps}/*/{src,test}/**/*.test.ts', 'scripts/**/*.test.mjs'],
    testTimeout: 60_000,
    pool: 'forks',
  },
});
