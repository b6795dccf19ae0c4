//! A loaded model and its engine.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use ctkvr_model::Model;
use napi::bindgen_prelude::{AsyncTask, Int32Array, Object, Uint8Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::counters::JsKvUsage;
use crate::deferred::{Refused, promise};
use crate::engine_host::EngineHost;
use crate::error::{caught, closed, model_error};
use crate::grammar::CompileGrammar;
use crate::model_info::JsModelInfo;
use crate::options::{JsSelectorOptions, Settings, kv_format};
use crate::restored_sequence::JsRestoredSequence;
use crate::sequence::NativeSequence;
use crate::slot::Slot;
use crate::snapshot::{RestoredSlot, restore};
use crate::step::{JsStepOptions, JsStepResult, PlanEntry};

/// `NativeModel` of packages/native/src/binding.ts.
#[napi(js_name = "Model")]
pub struct NativeModel {
    host: Arc<EngineHost>,
    /// `None` after close. Behind a lock, as JavaScript may close a model that still tokenizes.
    model: Mutex<Option<Arc<Model>>>,
    num_threads: usize,
    info: JsModelInfoSource,
}

/// The description stays readable after close.
struct JsModelInfoSource(ctkvr_model::ModelInfo);

impl NativeModel {
    /// Made on the JavaScript thread, where the end of the process can be waited for.
    pub fn new(env: &Env, host: Arc<EngineHost>, model: Arc<Model>, num_threads: usize) -> napi::Result<Self> {
        let at_exit: Weak<EngineHost> = Arc::downgrade(&host);
        env.add_env_cleanup_hook(at_exit, |host| host.upgrade().iter().for_each(|host| host.shut_down()))?;
        host.stop_at_exit();
        let info = JsModelInfoSource(model.info().clone());
        Ok(Self { host, model: Mutex::new(Some(model)), num_threads, info })
    }

    fn model(&self) -> napi::Result<Arc<Model>> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| closed("model"))
    }
}

#[napi]
impl NativeModel {
    /// What the file says about itself.
    #[napi(getter, catch_unwind)]
    pub fn info(&self) -> JsModelInfo {
        JsModelInfo::from(&self.info.0)
    }

    /// Threads of the engine.
    #[napi(getter, catch_unwind)]
    pub fn num_threads(&self) -> u32 {
        self.num_threads as u32
    }

    /// Tokenizes on a worker thread.
    #[napi(catch_unwind)]
    pub fn tokenize(&self, text: String, parse_special: bool) -> napi::Result<AsyncTask<Tokenize>> {
        Ok(AsyncTask::new(Tokenize { model: self.model()?, text, parse_special }))
    }

    /// Compiles a grammar on a worker thread.
    #[napi(catch_unwind)]
    pub fn compile_grammar(&self, lark: String) -> napi::Result<AsyncTask<CompileGrammar>> {
        Ok(AsyncTask::new(CompileGrammar::new(self.model()?, lark)))
    }

    /// Bytes of one token.
    #[napi(catch_unwind)]
    pub fn token_bytes(&self, token_id: i32, special: bool) -> napi::Result<Uint8Array> {
        let bytes = self.model()?.tokenizer().token_bytes(token_id, special);
        bytes.map(Uint8Array::from).map_err(|error| model_error(&error))
    }

    /// An empty sequence.
    #[napi(catch_unwind)]
    pub fn create_sequence(&self, options: JsSequenceOptions) -> napi::Result<NativeSequence> {
        let settings: Settings = options.selector.try_into()?;
        let kv_format = kv_format(options.kv_format.as_deref())?;
        let engine = self.host.engine()?;
        let id = engine.create_sequence(options.max_tokens as usize, kv_format, settings.selector.clone());
        let id = id.map_err(|error| model_error(&error))?;
        Ok(NativeSequence::new(Arc::clone(&self.host), Slot::of(id, settings)))
    }

    /// Makes a sequence of a file, on the engine's thread.
    #[napi(catch_unwind)]
    pub fn restore_sequence<'env>(&self, env: &'env Env, path: String) -> napi::Result<Object<'env>> {
        promise(env, |deferred| {
            let host = Arc::clone(&self.host);
            let work = move |engine: &ctkvr_engine::Engine, cancel: &std::sync::atomic::AtomicBool| restore(engine, &path, cancel);
            let resolve = move |restored: RestoredSlot| Ok(JsRestoredSequence::new(host, restored));
            self.host.start("restoreSequence", vec![], deferred, work, resolve)
        })
    }

    /// Runs one step on the engine's thread.
    #[napi(catch_unwind)]
    pub fn step<'env>(&self, env: &'env Env, plan: Vec<Object>, options: Option<JsStepOptions>) -> napi::Result<Object<'env>> {
        let entries: napi::Result<Vec<PlanEntry>> = plan.iter().map(|entry| PlanEntry::read(entry, &self.host)).collect();
        let measures = options.unwrap_or_default().measures();
        promise(env, |deferred| {
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => return Err(Refused { deferred, error }),
            };
            let keys = entries.iter().map(|entry| entry.key).collect();
            let work = move |engine: &ctkvr_engine::Engine, cancel: &std::sync::atomic::AtomicBool| {
                let entries: Vec<_> = entries.iter().map(PlanEntry::as_step_entry).collect();
                engine.step(&entries, measures, cancel)
            };
            self.host.start("step", keys, deferred, work, |result| Ok(JsStepResult::from(result)))
        })
    }

    /// What keys and values of all sequences take.
    #[napi(catch_unwind)]
    pub fn kv_usage(&self) -> napi::Result<JsKvUsage> {
        Ok(self.host.engine()?.kv_usage().into())
    }

    /// Makes the running step or index build reject soon.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.host.cancel();
    }

    /// Frees weights and sequences once the running step has ended. Idempotent.
    #[napi(catch_unwind)]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let model = self.model.lock().unwrap_or_else(PoisonError::into_inner).take();
        promise(env, |deferred| {
            drop(model); // the engine's own reference is freed on its thread
            self.host.close(deferred);
            Ok(())
        })
    }
}

/// `NativeSequenceOptions`.
#[napi(object, object_to_js = false)]
pub struct JsSequenceOptions {
    pub max_tokens: u32,
    pub kv_format: Option<String>,
    pub selector: JsSelectorOptions,
}

/// Tokenizing on a worker thread.
pub struct Tokenize {
    model: Arc<Model>,
    text: String,
    parse_special: bool,
}

impl Task for Tokenize {
    type Output = Vec<i32>;
    type JsValue = Int32Array;

    fn compute(&mut self) -> napi::Result<Vec<i32>> {
        caught(|| self.model.tokenizer().tokenize(&self.text, self.parse_special).map_err(|error| model_error(&error)))
    }

    fn resolve(&mut self, _env: Env, tokens: Vec<i32>) -> napi::Result<Int32Array> {
        Ok(Int32Array::new(tokens))
    }
}
