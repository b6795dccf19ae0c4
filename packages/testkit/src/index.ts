export type { CentroidIndexInput, CentroidIndexMaker, CentroidIndexSubject } from './centroid-index-subject.js';
export { buildCase, live } from './centroid-index-subject.js';
export { expectSameIds } from './compare-ids.js';
export type { ConformanceCase, GrowthCase } from './conformance-data.js';
export { conformanceCases, growthCases } from './conformance-data.js';
export type { ConformanceOptions, ConformanceSkip } from './conformance-skip.js';
export { describeCentroidIndex } from './describe-centroid-index.js';
export { describeOptions } from './describe-options.js';
export type { RopeSimilaritySubject, RotarySubject } from './describe-rope-similarity.js';
export { describeRopeSimilarity, ropeCases } from './describe-rope-similarity.js';
export type { TokenRefinerSubject } from './describe-token-refiner.js';
export { describeTokenRefiner } from './describe-token-refiner.js';
export type { ErrorBudget, HeadScale } from './error-budget.js';
export { errorBudget, gamma, headScale } from './error-budget.js';
export { expectTypedArrays } from './expect-typed-arrays.js';
export { expectCode, expectNear } from './expectations.js';
export { f16Bits, f16Value, roundToF16 } from './f16.js';
export {
  type FakeDeviceList,
  type FakeNativeControl,
  fakeCard,
  fakeNativeControl,
  fakeNativePath,
} from './fake-native.js';
export { geometricHeadData } from './geometric-head-data.js';
export type { HeadData, HeadDataSizes } from './head-data.js';
export { indexInput, integerHeadData, refinerInput } from './head-data.js';
export { attentionMass, klDivergence, recallAtK } from './measures.js';
export { naiveScores, naiveSoftmax, rowsOf } from './naive.js';
export type { NaiveStretch, NaiveTail, NaiveTailSegment } from './naive-clusters.js';
export { tailOfRows } from './naive-clusters.js';
export type { GrowthEvent, GrowthHistory } from './naive-growth.js';
export { naiveGrowth, prefixOf } from './naive-growth.js';
export type { NaiveCentroid, NaiveHead, NaiveLayout, NaiveSegment, NaiveStep } from './naive-head.js';
export { naiveHead } from './naive-head.js';
export { propertyParameters } from './property-seed.js';
export type { Random } from './random.js';
export { createRandom } from './random.js';
export { runReadmeExample } from './readme-example.js';
export { cosineBudget, frequencyBudget, rotationBudget, roundTripBudget } from './rope-budget.js';
