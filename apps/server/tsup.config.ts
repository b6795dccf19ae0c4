import { cp } from 'node:fs/promises';
import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.ts';

// The process of a model, and the one that makes text of uploads, are programs of their own, beside the package's code.
export default defineConfig({
  ...base,
  entry: {
    index: 'src/index.ts',
    'engine-process': 'src/isolation/engine-process.ts',
    'conversion-process': 'src/uploads/conversion-process.js',
  },
  dts: { entry: 'src/index.ts' },
  // So the package that is published serves the page without another one.
  onSuccess: () => cp('../page/dist', 'dist/page', { recursive: true }),
});
