import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.ts';

// The process that makes text of uploads is a program of its own, beside the package's code.
export default defineConfig({
  ...base,
  entry: { index: 'src/index.ts', 'conversion-process': 'src/uploads/conversion-process.js' },
  dts: { entry: 'src/index.ts' },
});
