import { describeOptions, indexInput, integerHeadData } from '@ctkvr/testkit';
import * as centroidIndex from '../src/index.js';

const data = indexInput(
  integerHeadData({ seed: 1, numTokens: 60, headDim: 8, groupSize: 2, numCentroids: 6, numDecodes: 1 }),
);
const { keys, values, queries, headDim, groupSize } = data;
const options = { recentWindow: 8, numCentroids: 6 };
const build = (more: object = {}) => centroidIndex.buildCentroidIndex({ ...data, options, ...more });

// Methods: in the conformance suite, for every backend.
describeOptions(
  centroidIndex,
  {
    buildCentroidIndex: build,
    loadCentroidIndex: async (more) =>
      centroidIndex.loadCentroidIndex({ image: await (await build()).save(), keys, values, ...more }),
    'buildCentroidIndex.options': (more) => build({ options: { ...options, ...more } }),
    'buildCentroidIndex.extend': async (more) => (await build()).extend(more),
    spreadQueries: (more) => centroidIndex.spreadQueries({ queries, groupSize, headDim, count: 2, ...more }),
  },
  [],
);
