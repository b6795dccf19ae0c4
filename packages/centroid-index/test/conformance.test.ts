import { describeCentroidIndex } from '@ctkvr/testkit';
import { buildCentroidIndex } from '../src/index.js';

describeCentroidIndex((input) => buildCentroidIndex({ ...input, backend: 'reference' }));
