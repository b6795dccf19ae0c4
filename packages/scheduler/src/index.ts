export type { AdmissionDecision, AdmissionOptions, AdmissionRequest } from './admission/admission-request.js';
export { PageAdmission } from './admission/page-admission.js';
export type { ComposeLimits } from './compose-step.js';
export { StepComposer, type StepComposerOptions } from './step-composer.js';
export type {
  EngineSequence,
  EngineStepResult,
  SequenceStepResult,
  StepEngine,
  StepEntry,
  StepOutput,
  StepPhase,
} from './step-engine.js';
export type { RequestResult, StepRequestOptions } from './step-request.js';
