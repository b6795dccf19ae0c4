export type { AdmissionDecision, AdmissionOptions, AdmissionRequest } from './admission/admission-request.js';
export { PageAdmission } from './admission/page-admission.js';
export type { ComposeLimits } from './compose-step.js';
export { FairQueue } from './fairness/fair-queue.js';
export type { FairQueueOptions, QueueCaller, QueueRequest } from './fairness/queue-request.js';
export type { DenseStep } from './plan/dense-step.js';
export { knownCards } from './plan/known-cards.js';
export { type Work, type WorkPart, workParts } from './plan/layer-work.js';
export type { Calibration, DeviceSpec, HostSpec } from './plan/machine-spec.js';
export { type ModelShape, modelShapes } from './plan/model-shape.js';
export { type MemoryBytes, type MemoryPart, memoryParts, type PlacedMemory } from './plan/placed-memory.js';
export { type LayerPlace, layerPlaces, type Placement } from './plan/placement.js';
export { type PlacedStep, type Plan, plan } from './plan/plan.js';
export { type CardNeed, type CardPlan, type CardPlans, type CardPlansOptions, planCards } from './plan/plan-cards.js';
export { LEAST_CONTEXT, type PlanOptions, type Workload } from './plan/plan-options.js';
export { type ReadBytes, type ReadPart, readParts } from './plan/read-bytes.js';
export { type PlannedSelector, type ReadSetting, type RetrievalReads, readSettings } from './plan/retrieval-reads.js';
export type { TimelineEvent } from './plan/simulate-step.js';
export type { Bottleneck, StepTime } from './plan/time-placement.js';
export { type WeightFormat, weightFormats } from './plan/weight-bytes.js';
export { StepComposer, type StepComposerOptions } from './step-composer.js';
export type {
  EngineSequence,
  EngineStepResult,
  SequenceStepResult,
  StepEngine,
  StepEntry,
  StepMeasures,
  StepOutput,
  StepPhase,
} from './step-engine.js';
export type { RequestResult, StepRequestOptions } from './step-request.js';
