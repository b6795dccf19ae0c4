import { cp } from 'node:fs/promises';
import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.ts';

export default defineConfig({
  ...base,
  // So the package that is published serves the page without another one.
  onSuccess: () => cp('../page/dist', 'dist/page', { recursive: true }),
});
