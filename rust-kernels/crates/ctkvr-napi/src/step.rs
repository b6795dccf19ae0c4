//! Plans and results of engine steps.

use std::sync::Arc;

use ctkvr_core::{Phase, SequenceId, StageTimes};
use ctkvr_engine::{Measures, SequenceResult, StepEntry, StepOutput, StepResult};
use napi::bindgen_prelude::{ClassInstance, Float32Array, Int32Array, JsObjectValue, Object};
use napi_derive::napi;

use crate::counters::JsSelectionCounters;
use crate::engine_host::EngineHost;
use crate::error::invalid_option;
use crate::sequence::NativeSequence;

/// One entry of a plan, owned: the tokens are copied, because JavaScript may change its array while the step runs.
pub struct PlanEntry {
    pub key: u64,
    pub id: SequenceId,
    tokens: Vec<i32>,
    phase: Phase,
    output: StepOutput,
}

impl PlanEntry {
    /// Reads a `NativeStepEntry`. @param host the model's: a sequence of another model is refused.
    pub fn read(entry: &Object, host: &Arc<EngineHost>) -> napi::Result<Self> {
        let sequence = entry.get_named_property::<ClassInstance<NativeSequence>>("sequence")?;
        if !sequence.belongs_to(host) {
            return Err(invalid_option("sequence", "one of this model", "one of another model"));
        }
        let output = match entry.get_named_property::<String>("output")?.as_str() {
            "none" => StepOutput::None,
            "sample" => StepOutput::Sample,
            "logits" => StepOutput::Logits,
            "sampleAndLogits" => StepOutput::SampleAndLogits,
            other => return Err(invalid_option("output", "none, sample, logits or sampleAndLogits", other)),
        };
        let phase = match entry.get_named_property::<String>("phase")?.as_str() {
            "prefill" => Phase::Prefill,
            "decode" => Phase::Decode,
            other => return Err(invalid_option("phase", "prefill or decode", other)),
        };
        let tokens = entry.get_named_property::<Int32Array>("tokens")?.to_vec();
        Ok(Self { key: sequence.slot().key, id: sequence.slot().id()?, tokens, phase, output })
    }

    /// The engine's view of it.
    pub fn as_step_entry(&self) -> StepEntry<'_> {
        StepEntry { sequence: self.id, tokens: &self.tokens, phase: self.phase, output: self.output }
    }
}

/// `NativeStepOptions`.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct JsStepOptions {
    pub audit: Option<bool>,
    pub read_map: Option<bool>,
}

impl JsStepOptions {
    pub fn measures(&self) -> Measures {
        Measures { audit: self.audit.unwrap_or(false), read_map: self.read_map.unwrap_or(false) }
    }
}

/// `NativeStepResult`.
#[napi(object, object_from_js = false)]
pub struct JsStepResult {
    pub sequences: Vec<JsSequenceResult>,
    pub timings: JsStepTimings,
}

/// What a step gave one sequence.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsSequenceResult {
    pub token_id: Option<i32>,
    pub failure: Option<String>,
    pub logits: Option<Float32Array>,
    pub counters: Option<JsSelectionCounters>,
    pub read_map: Option<Float32Array>,
}

/// `StepTimings` of packages/core/src/statistics.ts.
#[napi(object, object_from_js = false)]
pub struct JsStepTimings {
    pub total_ms: f64,
    pub linear_ms: f64,
    pub retrieval_ms: f64,
    pub attention_ms: f64,
    pub sampling_ms: f64,
    pub index_ms: f64,
    pub stages: JsStageTimes,
}

/// `StageTimes` of the same file.
#[napi(object, object_from_js = false)]
pub struct JsStageTimes {
    pub store_ms: f64,
    pub probe_ms: f64,
    pub union_ms: f64,
    pub score_ms: f64,
    pub select_ms: f64,
    pub attend_ms: f64,
    pub merge_ms: f64,
    pub prefill_ms: f64,
    pub wait_ms: f64,
}

impl From<StageTimes> for JsStageTimes {
    fn from(times: StageTimes) -> Self {
        Self {
            store_ms: times.store_ms,
            probe_ms: times.probe_ms,
            union_ms: times.union_ms,
            score_ms: times.score_ms,
            select_ms: times.select_ms,
            attend_ms: times.attend_ms,
            merge_ms: times.merge_ms,
            prefill_ms: times.prefill_ms,
            wait_ms: times.wait_ms,
        }
    }
}

impl From<StepResult> for JsStepResult {
    fn from(result: StepResult) -> Self {
        let timings = result.timings;
        Self {
            sequences: result.sequences.into_iter().map(JsSequenceResult::from).collect(),
            timings: JsStepTimings {
                total_ms: timings.total_ms,
                linear_ms: timings.linear_ms,
                retrieval_ms: timings.stages.retrieval_ms(),
                attention_ms: timings.stages.attention_ms(),
                sampling_ms: timings.sampling_ms,
                index_ms: timings.index_ms,
                stages: timings.stages.into(),
            },
        }
    }
}

impl From<SequenceResult> for JsSequenceResult {
    fn from(result: SequenceResult) -> Self {
        Self {
            token_id: result.token_id,
            failure: result.failure,
            // Handed over without a copy.
            logits: result.logits.map(Float32Array::new),
            counters: result.counters.map(JsSelectionCounters::from),
            read_map: result.read_map.map(Float32Array::new),
        }
    }
}
