// An index on your own keys and queries, built and searched by the native engine. Without @ctkvr/native, leave `native` out: the same
// code then runs the TypeScript reference.
import { buildCentroidIndex } from '@ctkvr/centroid-index';
import { loadBinding } from '@ctkvr/native';
import { createAttentionOutput, MassAudit, TokenRefiner } from '@ctkvr/token-refiner';

const [numTokens, headDim, groupSize] = [4000, 64, 3]; // one KV head, shared by three query heads
const random = (length) => Float32Array.from({ length }, () => Math.random() - 0.5);
const [keys, values] = [random(numTokens * headDim), random(numTokens * headDim)]; // keys rotated, position = row
const queries = random(128 * groupSize * headDim); // rotated queries of the last 128 tokens, oldest first

const options = { numCentroids: 128, maxSelected: 256 };
const index = await buildCentroidIndex({ keys, values, queries, headDim, groupSize, options, native: loadBinding() });
const refiner = new TokenRefiner({ keys, values, headDim, groupSize, maxSelected: 256, native: index.native });

const centroids = new Uint32Array(index.numProbed);
const union = new Uint32Array(index.maxCandidates);
const tail = { lse: new Float32Array(groupSize), value: new Float32Array(groupSize * headDim) };
const out = createAttentionOutput(groupSize, headDim);
const measured = new Float32Array(groupSize);
const audit = new MassAudit();
for (let step = 0; step < 10; step++) {
  const query = random(groupSize * headDim);
  index.probe({ query, centroids, similarities: new Float32Array(index.numProbed) });
  const listed = union.subarray(0, index.candidates({ centroids, out: union }));
  const candidates = union.subarray(0, index.widen({ query, candidates: listed, out: union }));
  index.tailAt({ query, candidates, ...tail });
  refiner.attend({ query, candidates, tail, out }); // out.output, out.lse, and out.mass, which is an estimate
  refiner.measureMass({ query, candidates, out: measured }); // reads every key: for a sample of your steps
  measured.forEach((mass, head) => {
    audit.add(out.mass[head], mass);
  });
}
const error = audit.meanAbsoluteError.toFixed(4);
process.stdout.write(
  `${index.backend} index, ${refiner.backend} refiner: ${index.sizeBytes} bytes, mass off by ${error}\n`,
);
index.close();
