import { describeOptions } from '@ctkvr/testkit';
import * as refiner from '../src/index.js';

const keys = new Float32Array(32);
const layout = { keys, headDim: 4, groupSize: 1 };
const query = new Float32Array(4);
const ids = Uint32Array.of(0, 1);
const scores = new Float32Array(2);
const out = refiner.createPartialAttention(1, 4);
const tail = { lse: new Float32Array(1), value: new Float32Array(4) };

// Methods of TokenRefiner: in the conformance suite, for every backend.
describeOptions(
  refiner,
  {
    attendPositions: (more) =>
      refiner.attendPositions({ ...layout, query, values: keys, positions: ids, out, ...more }),
    groupWeights: (more) =>
      refiner.groupWeights({ scores, groupSize: 1, numCandidates: 2, out: new Float64Array(2), ...more }),
    measuredMass: (more) =>
      refiner.measuredMass({ ...layout, query, positions: ids, out: new Float32Array(1), ...more }),
    mergePartials: (more) => refiner.mergePartials({ partials: [out], groupSize: 1, headDim: 4, out, ...more }),
    scoreCandidates: (more) => refiner.scoreCandidates({ ...layout, query, candidates: ids, out: scores, ...more }),
    selectCandidates: (more) =>
      refiner.selectCandidates({
        weights: new Float64Array(2),
        candidates: ids,
        maxSelected: 1,
        out: new Uint32Array(2),
        ...more,
      }),
    tailPartial: (more) =>
      refiner.tailPartial({ tail, scores, candidates: ids, selected: ids, groupSize: 1, headDim: 4, out, ...more }),
    TokenRefiner: (more) => new refiner.TokenRefiner({ ...layout, values: keys, ...more }),
    'TokenRefiner.measureMass': (more) =>
      new refiner.TokenRefiner({ ...layout, values: keys }).measureMass({
        query,
        candidates: new Uint32Array(0),
        out: new Float32Array(1),
        ...more,
      }),
  },
  ['MassAudit', 'createAttentionOutput', 'createPartialAttention'],
);
