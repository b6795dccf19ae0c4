import { defineConfig } from 'tsup';
import { base } from '../../tsup.base.ts';

export default defineConfig({
  ...base,
  entry: {
    index: 'src/index.ts',
    bin: 'src/bin.ts',
    // The child processes' entry: forked by path from beside the module that forks it (no code splitting, see contender-client.ts).
    'contender-process': 'src/contenders/contender-process.ts',
  },
});
