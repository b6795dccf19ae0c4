import { describeCentroidIndex } from '@ctkvr/testkit';
import { buildCentroidIndex, loadCentroidIndex } from '../src/index.js';

describeCentroidIndex({
  build: (input) => buildCentroidIndex({ ...input, backend: 'reference' }),
  load: (input) => loadCentroidIndex({ ...input, backend: 'reference' }),
});
