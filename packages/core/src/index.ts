export type { CheckedArgument } from './checks.js';
export { checkCapacity, checkFinite, checkInteger, checkLength } from './checks.js';
export type { BackendChoice } from './choose-backend.js';
export { chooseBackend } from './choose-backend.js';
export { countOf } from './count-of.js';
export type { DeviceChoice } from './device-choice.js';
export { deviceCheck } from './device-choice.js';
export { type ErrorData, fromErrorData, toErrorData } from './error-data.js';
export type { CtkvrErrorCode, CtkvrErrorFields } from './errors.js';
export { CtkvrError } from './errors.js';
export type { RefineRules, SegmentInfo, TailEstimate, TailInfo, TailSegmentInfo } from './index-parts.js';
export type { IndexedRegion } from './indexed-region.js';
export { indexedRegion } from './indexed-region.js';
export type { KvFormat } from './kv-format.js';
export { fitsKvFormat, kvFormats, resolveKvFormat } from './kv-format.js';
export type {
  NativeCentroidIndex,
  NativeCentroidIndexConstructor,
  NativeHeadAttention,
  NativeIndexAppend,
  NativeIndexBinding,
  NativeIndexImage,
  NativeIndexInput,
} from './native-index.js';
export type {
  NativeCosineInput,
  NativeOverlapInput,
  NativeRopeBinding,
  NativeRopeScaling,
  NativeRotaryEmbedding,
  NativeRotaryEmbeddingConstructor,
  NativeRotaryOptions,
  NativeRotation,
} from './native-rotary.js';
export { nearestName } from './nearest-name.js';
export type { NestedNames, OptionChecks } from './option-checks.js';
export { checkKnownKeys, checkOption, checkOptions } from './option-checks.js';
export type { OptionCheck } from './option-kinds.js';
export * as takes from './option-kinds.js';
export type { CosineByDistance, OverlapBySimilarity } from './query-statistics.js';
export type { RopeOptions, RopeScalingKind } from './rope-options.js';
export { ropeOptionChecks, ropeOptionNames, ropeOptionsOf, ropeScalingKinds } from './rope-options.js';
export type { CentroidChoice, PresetName, SelectorMethod, SelectorOptions } from './selector-options.js';
export {
  centroidBounds,
  centroidChoices,
  centroidCount,
  groupDefaults,
  postingListLength,
  presetNames,
  resolveSelectorOptions,
  selectorMethods,
  selectorOptionNames,
  UNBOUNDED,
} from './selector-options.js';
export type { SelectionCounters, SequenceMemory, StageTimes, StepTimings } from './statistics.js';
