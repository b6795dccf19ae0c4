import * as rope from '@ctkvr/rope-similarity';
import { describeOptions } from '../src/index.js';

const queries = new Float32Array(8).fill(1);
const sizes = { groupSize: 1, headDim: 4 };
const points = new Float64Array(2);
const turn = { vectors: queries, numHeads: 1, out: new Float32Array(8) };
const turning = new rope.RotaryEmbedding({ headDim: 4, pairing: 'half' });

describeOptions(
  rope,
  {
    cosineByDistance: (more) => rope.cosineByDistance({ queries, ...sizes, distances: Uint32Array.of(1), ...more }),
    overlapBySimilarity: (more) =>
      rope.overlapBySimilarity({ queries, keys: queries, ...sizes, topK: 1, pairs: Uint32Array.of(0, 1), ...more }),
    groupCosine: (more) => rope.groupCosine({ a: queries, b: queries, ...sizes, ...more }),
    overlapCurve: (more) => rope.overlapCurve({ similarity: points, overlap: points, ...more }),
    ropeFrequencies: (more) =>
      rope.ropeFrequencies({ rotaryDim: 4, freqBase: 10_000, scaling: { type: 'none' }, ...more }),
    dynamicNtkFactor: (more) => rope.dynamicNtkFactor({ factor: 2, originalContext: 8, numTokens: 9, ...more }),
    yarnAttentionFactor: (more) => rope.yarnAttentionFactor({ factor: 2, ...more }),
    resolveRopeScaling: (more) => rope.resolveRopeScaling({ type: 'linear', factor: 2, ...more }),
    RotaryEmbedding: (more) => new rope.RotaryEmbedding({ headDim: 4, pairing: 'half', ...more }),
    'RotaryEmbedding.rotate': (more) => turning.rotate({ ...turn, ...more }),
    'RotaryEmbedding.rotateInverse': (more) => turning.rotateInverse({ ...turn, ...more }),
    'RotaryEmbedding.rotateAsync': (more) => turning.rotateAsync({ ...turn, ...more }),
  },
  [],
);
