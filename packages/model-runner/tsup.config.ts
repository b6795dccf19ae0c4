import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.ts';

// The process that renders templates is a program of its own, beside the package's code.
export default defineConfig({
  ...base,
  entry: ['src/index.ts', 'src/template-process.js'],
  dts: { entry: 'src/index.ts' },
});
