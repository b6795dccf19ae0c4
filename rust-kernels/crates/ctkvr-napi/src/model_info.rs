//! What a GGUF file says about itself.

use std::path::PathBuf;

use ctkvr_core::LocalLayers;
use ctkvr_model::{ModelInfo, inspect};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::error::model_error;

/// `NativeModelInfo` of packages/native/src/binding.ts.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct JsModelInfo {
    pub path: String,
    pub name: Option<String>,
    pub architecture: String,
    pub unsupported_reason: Option<String>,
    pub size_bytes: f64,
    pub num_parameters: f64,
    pub quantisation: String,
    pub num_layers: u32,
    pub num_query_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    pub embedding_length: u32,
    pub vocab_size: u32,
    pub trained_context: u32,
    pub local_layers: Option<JsLocalLayers>,
    pub rope_freq_base: f64,
    pub rope_scaling: String,
    pub kv_bytes_per_token: f64,
    pub chat_template: Option<String>,
    pub bos_token_id: Option<i32>,
    pub add_bos: bool,
    pub eos_token_id: Option<i32>,
    pub end_of_generation_token_ids: Vec<i32>,
    pub control_tokens: Vec<JsControlToken>,
}

/// `NativeLocalLayers`.
#[napi(object)]
pub struct JsLocalLayers {
    pub window: u32,
    pub period: u32,
}

impl From<LocalLayers> for JsLocalLayers {
    fn from(LocalLayers { window, period }: LocalLayers) -> Self {
        let number = |x: usize| u32::try_from(x).unwrap_or(u32::MAX);
        Self { window: number(window), period: number(period) }
    }
}

impl From<JsLocalLayers> for LocalLayers {
    fn from(JsLocalLayers { window, period }: JsLocalLayers) -> Self {
        Self { window: window as usize, period: period as usize }
    }
}

/// A control token and its text.
#[napi(object, object_from_js = false)]
pub struct JsControlToken {
    pub text: String,
    pub token_id: i32,
}

impl From<&ModelInfo> for JsModelInfo {
    fn from(info: &ModelInfo) -> Self {
        Self {
            path: info.path.to_string_lossy().into_owned(),
            name: info.name.clone(),
            architecture: info.architecture.clone(),
            unsupported_reason: info.unsupported_reason.clone(),
            size_bytes: info.size_bytes as f64,
            num_parameters: info.num_parameters as f64,
            quantisation: info.quantisation.clone(),
            num_layers: info.num_layers as u32,
            num_query_heads: info.num_q_heads as u32,
            num_kv_heads: info.num_kv_heads as u32,
            head_dim: info.head_dim as u32,
            embedding_length: info.embedding_len as u32,
            vocab_size: info.vocab_size as u32,
            trained_context: info.trained_context as u32,
            local_layers: info.local_layers.map(JsLocalLayers::from),
            rope_freq_base: f64::from(info.rope_freq_base),
            rope_scaling: info.rope_scaling.clone(),
            kv_bytes_per_token: info.kv_bytes_per_token as f64,
            chat_template: info.chat_template.clone(),
            bos_token_id: info.bos_token_id,
            add_bos: info.add_bos,
            eos_token_id: info.eos_token_id,
            end_of_generation_token_ids: info.end_of_generation_token_ids.clone(),
            control_tokens: info
                .control_tokens
                .iter()
                .map(|token| JsControlToken { text: token.text.clone(), token_id: token.token_id })
                .collect(),
        }
    }
}

/// Opens and checks a file on a worker thread.
pub struct Inspect {
    path: PathBuf,
}

impl Task for Inspect {
    type Output = ModelInfo;
    type JsValue = JsModelInfo;

    fn compute(&mut self) -> napi::Result<ModelInfo> {
        crate::error::caught(|| inspect(&self.path).map_err(|error| model_error(&error)))
    }

    fn resolve(&mut self, _env: Env, info: ModelInfo) -> napi::Result<JsModelInfo> {
        Ok(JsModelInfo::from(&info))
    }
}

/// Opens, checks and describes a GGUF file off the JavaScript thread.
#[napi(catch_unwind)]
pub fn inspect_model(path: String) -> AsyncTask<Inspect> {
    AsyncTask::new(Inspect { path: path.into() })
}
