//! A sequence of a model: a row of KV, its index and its sampler.

use std::sync::Arc;
use std::time::Duration;

use ctkvr_core::BuildReport;
use ctkvr_model::{AnswerRules, TokenBias};
use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;

use crate::counters::JsSequenceMemory;
use crate::deferred::{Refused, promise};
use crate::engine_host::EngineHost;
use crate::grammar::NativeGrammar;
use crate::options::{JsSamplerOptions, JsSelectorOptions, JsTokenBias, Settings};
use crate::position_range::JsPositionRange;
use crate::slot::{Reading, Slot};
use crate::snapshot::{JsSavedSequence, save};

/// `NativeSequence` of packages/native/src/binding.ts.
#[napi(js_name = "Sequence")]
pub struct NativeSequence {
    host: Arc<EngineHost>,
    slot: Arc<Slot>,
}

impl NativeSequence {
    pub fn new(host: Arc<EngineHost>, slot: Arc<Slot>) -> Self {
        Self { host, slot }
    }

    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub fn belongs_to(&self, host: &Arc<EngineHost>) -> bool {
        Arc::ptr_eq(&self.host, host)
    }

    fn read(&self) -> napi::Result<Reading> {
        self.slot.read(&*self.host.engine()?)
    }
}

impl Drop for NativeSequence {
    fn drop(&mut self) {
        self.slot.close(&self.host);
    }
}

#[napi]
impl NativeSequence {
    /// Unique in this process.
    #[napi(getter, catch_unwind)]
    pub fn id(&self) -> f64 {
        self.slot.key as f64
    }

    /// Tokens stored.
    #[napi(getter, catch_unwind)]
    pub fn length(&self) -> napi::Result<u32> {
        Ok(self.read()?.len as u32)
    }

    /// Bytes held.
    #[napi(getter, catch_unwind)]
    pub fn memory(&self) -> napi::Result<JsSequenceMemory> {
        Ok(self.read()?.memory.into())
    }

    /// Queries held that a build would make centroids of.
    #[napi(getter, catch_unwind)]
    pub fn num_recent_queries(&self) -> napi::Result<u32> {
        Ok(self.read()?.num_recent_queries as u32)
    }

    /// Positions covered by the index.
    #[napi(getter, catch_unwind)]
    pub fn indexed_range(&self) -> napi::Result<JsPositionRange> {
        let (start, end) = self.read()?.indexed_range;
        Ok((start..end).into())
    }

    /// A second sequence with the same content.
    #[napi(catch_unwind)]
    pub fn fork(&self) -> napi::Result<NativeSequence> {
        Ok(NativeSequence::new(Arc::clone(&self.host), self.slot.fork(&self.host)?))
    }

    /// Drops positions from `length` on.
    #[napi(catch_unwind)]
    pub fn truncate(&self, length: u32) -> napi::Result<()> {
        self.slot.truncate(&self.host, length as usize)
    }

    /// Changes how keys are chosen.
    #[napi(catch_unwind)]
    pub fn set_selector(&self, selector: JsSelectorOptions) -> napi::Result<()> {
        self.slot.set_selector(&self.host, Settings::try_from(selector)?)
    }

    /// Replaces the sampler; the answer is bound to the grammar, from its beginning, and single tokens are biased.
    #[napi(catch_unwind)]
    pub fn set_sampler(
        &self,
        sampler: JsSamplerOptions,
        grammar: Option<&NativeGrammar>,
        biases: Option<Vec<JsTokenBias>>,
    ) -> napi::Result<()> {
        let biases = biases.unwrap_or_default().into_iter().map(TokenBias::from).collect();
        let rules = AnswerRules { grammar: grammar.map(NativeGrammar::begin), biases };
        self.slot.set_sampler(&self.host, sampler.into(), rules)
    }

    /// Builds the index on the engine's thread; once `max_ms` has passed, what is left waits for the next call.
    #[napi(catch_unwind)]
    pub fn build_index<'env>(&self, env: &'env Env, max_ms: Option<f64>) -> napi::Result<Object<'env>> {
        let id = self.slot.id();
        let most = max_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok()).unwrap_or(Duration::MAX);
        promise(env, |deferred| {
            let id = match id {
                Ok(id) => id,
                Err(error) => return Err(Refused { deferred, error }),
            };
            let build =
                move |engine: &ctkvr_engine::Engine, cancel: &std::sync::atomic::AtomicBool| engine.build_index(id, most, cancel);
            self.host.start("buildIndex", vec![self.slot.key], deferred, build, |report| Ok(JsBuildReport::from(report)))
        })
    }

    /// Writes the sequence to a file, on the engine's thread; `notes` come back when it is restored.
    #[napi(catch_unwind)]
    pub fn save<'env>(&self, env: &'env Env, path: String, notes: Option<String>) -> napi::Result<Object<'env>> {
        let (id, settings) = (self.slot.id(), self.slot.settings());
        promise(env, |deferred| {
            let id = match id {
                Ok(id) => id,
                Err(error) => return Err(Refused { deferred, error }),
            };
            let work = move |engine: &ctkvr_engine::Engine, _: &std::sync::atomic::AtomicBool| {
                save(engine, id, &path, settings.named, notes.unwrap_or_default())
            };
            self.host.start("save", vec![self.slot.key], deferred, work, |bytes| Ok(JsSavedSequence { bytes: bytes as f64 }))
        })
    }

    /// Releases the sequence. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.slot.close(&self.host);
    }
}

/// What an index build, or a part of one, made.
#[napi(object, object_from_js = false)]
pub struct JsBuildReport {
    pub build_ms: f64,
    pub heads_left: u32,
    pub index_bytes: f64,
    pub indexed_tokens: f64,
}

impl From<BuildReport> for JsBuildReport {
    fn from(report: BuildReport) -> Self {
        let BuildReport { build_ms, heads_left, index_bytes, indexed_tokens } = report;
        Self { build_ms, heads_left: heads_left as u32, index_bytes: index_bytes as f64, indexed_tokens: indexed_tokens as f64 }
    }
}
