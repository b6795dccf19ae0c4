//! Loads a model on the thread that will run its engine.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};

use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_cuda::{CudaExecutor, CudaOptions};
use ctkvr_engine::{Engine, EngineOptions, Executor};
use ctkvr_kernels::Kernels;
use ctkvr_model::{Model, RopeOverrides, RopeScaling};
use napi::Env;
use napi::bindgen_prelude::{Function, Object};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use crate::deferred::{Deferred, Refused, promise};
use crate::engine_host::{EngineHost, Job};
use crate::error::{caught, internal, invalid_option, model_error};
use crate::model::NativeModel;

/// `NativeLoadOptions` of packages/native/src/binding.ts.
#[napi(object, object_to_js = false)]
pub struct JsLoadOptions {
    pub num_threads: u32,
    pub prefill_chunk: Option<u32>,
    pub rope_freq_base: Option<f64>,
    pub rope_freq_scale: Option<f64>,
    pub rope_scaling: Option<String>,
    pub yarn_original_context: Option<u32>,
    pub yarn_ext_factor: Option<f64>,
    pub yarn_attn_factor: Option<f64>,
    pub yarn_beta_fast: Option<f64>,
    pub yarn_beta_slow: Option<f64>,
    pub isa: Option<String>,
    pub map_weights: Option<bool>,
    pub kv_budget_bytes: Option<f64>,
    pub device: Option<String>,
    pub hybrid_layers: Option<u32>,
}

/// Loads weights off the JavaScript thread; `on_progress` receives 0..1.
#[napi(catch_unwind)]
pub fn load_model<'env>(
    env: &'env Env,
    path: String,
    options: JsLoadOptions,
    on_progress: Option<Function<f64, ()>>,
) -> napi::Result<Object<'env>> {
    let report = on_progress.map(|function| function.build_threadsafe_function::<f64>().weak::<true>().build()).transpose()?;
    let (hand_over, handed_over) = mpsc::channel::<Deferred<NativeModel>>();
    let run = move || {
        // Nothing to do for a promise that could not be made.
        let Ok(deferred) = handed_over.recv() else { return };
        let mut progress = throttled(|fraction| {
            report.iter().for_each(|report| {
                report.call(fraction, ThreadsafeFunctionCallMode::NonBlocking);
            });
        });
        match caught(|| load(Path::new(&path), &options, &mut progress)) {
            Err(error) => deferred.reject(error),
            Ok(engine) => {
                let model = Arc::clone(engine.model());
                let num_threads = engine.capabilities().num_threads;
                let (sender, jobs) = mpsc::channel::<Job>();
                let host = Arc::new(EngineHost::new(engine, sender));
                deferred.resolve(Box::new(move |env| NativeModel::new(&env, host, model, num_threads)));
                jobs.into_iter().for_each(|job| job());
            }
        }
    };
    // The handle is let go: the thread ends when the model's last object is gone.
    std::thread::Builder::new()
        .name("ctkvr-engine".into())
        .spawn(run)
        .map_err(|error| internal(format!("no thread for the engine: {error}")))?;
    promise(env, |deferred| {
        hand_over.send(deferred).map_err(|unsent| Refused { deferred: unsent.0, error: internal("the engine's thread is gone") })
    })
}

/// At most some hundred calls, whatever the loader's steps: enough for any bar.
fn throttled(mut report: impl FnMut(f64)) -> impl FnMut(f32) {
    let mut reported = f64::NEG_INFINITY;
    move |fraction| {
        let fraction = f64::from(fraction);
        if fraction - reported >= 0.01 || (fraction >= 1.0 && reported < 1.0) {
            reported = fraction;
            report(fraction);
        }
    }
}

fn rope_overrides(options: &JsLoadOptions) -> napi::Result<RopeOverrides> {
    let number = |value: Option<f64>| value.map(|value| value as f32);
    let rope = RopeOverrides {
        freq_base: number(options.rope_freq_base),
        freq_scale: number(options.rope_freq_scale),
        scaling: options.rope_scaling.as_deref().map(rope_scaling).transpose()?,
        original_context: options.yarn_original_context,
        ext_factor: number(options.yarn_ext_factor),
        attn_factor: number(options.yarn_attn_factor),
        beta_fast: number(options.yarn_beta_fast),
        beta_slow: number(options.yarn_beta_slow),
    };
    for (option, value) in [
        ("ropeFreqBase", rope.freq_base),
        ("ropeFreqScale", rope.freq_scale),
        ("yarnAttnFactor", rope.attn_factor),
        ("yarnBetaFast", rope.beta_fast),
        ("yarnBetaSlow", rope.beta_slow),
    ] {
        if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
            return Err(invalid_option(option, "a number above 0", value));
        }
    }
    if let Some(value) = rope.ext_factor.filter(|value| !(0.0..=1.0).contains(value)) {
        return Err(invalid_option("yarnExtFactor", "a number from 0 to 1", value));
    }
    if rope.original_context == Some(0) {
        return Err(invalid_option("yarnOriginalContext", "at least 1", 0));
    }
    Ok(rope)
}

fn rope_scaling(name: &str) -> napi::Result<RopeScaling> {
    let kinds = [RopeScaling::None, RopeScaling::Linear, RopeScaling::Yarn];
    let found = kinds.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| invalid_option("ropeScaling", "none, linear or yarn", name))
}

fn load(path: &Path, options: &JsLoadOptions, progress: &mut dyn FnMut(f32)) -> napi::Result<Engine> {
    let rope = rope_overrides(options)?;
    let kv_budget = options.kv_budget_bytes.map(kv_budget).transpose()?;
    let device = options.device.as_deref().map(device_index).transpose()?.flatten();
    let mut engine = || -> ctkvr_model::Result<Engine> {
        let prefill_chunk = options.prefill_chunk.unwrap_or(0) as usize;
        if let Some(index) = device {
            let model = Arc::new(Model::load(path, rope)?);
            let cuda = CudaOptions {
                device: index,
                kv_budget_bytes: kv_budget,
                num_threads: options.num_threads as usize,
                hybrid_layers: options.hybrid_layers.unwrap_or(0) as usize,
            };
            let executor: Box<dyn Executor> = Box::new(CudaExecutor::load(Arc::clone(&model), cuda, progress)?);
            return Engine::new(model, executor, EngineOptions { prefill_chunk });
        }
        let isa = options.isa.as_deref().unwrap_or("");
        // A name that there is not is refused with the attention's kernels.
        let named = Kernels::available().into_iter().rfind(|kernels| !isa.is_empty() && kernels.name == isa);
        let model = Arc::new(Model::load(path, rope)?);
        let cpu = CpuOptions {
            num_threads: options.num_threads as usize,
            map_weights: options.map_weights.unwrap_or(false),
            attention_kernels: Some(Kernels::named(isa, model.spec().head_dim)?),
            kv_budget_bytes: kv_budget,
            ..named.map_or_else(CpuOptions::default, CpuOptions::with)
        };
        let loading = Loading { progress: &mut *progress, cancel: &AtomicBool::new(false) };
        let executor = CpuExecutor::load(Arc::clone(&model), cpu, loading)?;
        Engine::new(model, Box::new(executor), EngineOptions { prefill_chunk })
    };
    engine().map_err(|error| model_error(&error))
}

/// A device by its name: `cpu` has none, `cuda` is the first.
fn device_index(name: &str) -> napi::Result<Option<usize>> {
    let index = match name {
        "cpu" => return Ok(None),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|index| index.parse().ok()),
    };
    index.map(Some).ok_or_else(|| invalid_option("device", "cpu, cuda or cuda:N", name))
}

/// A budget as JavaScript gives it.
fn kv_budget(bytes: f64) -> napi::Result<usize> {
    const MAX_SAFE_INTEGER: f64 = ((1u64 << 53) - 1) as f64;
    if !(0.0..=MAX_SAFE_INTEGER).contains(&bytes) || bytes.fract() != 0.0 {
        return Err(invalid_option("kvBudgetBytes", "a whole number of bytes", bytes));
    }
    Ok(bytes as usize)
}
