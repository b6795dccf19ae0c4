//! What a context needs, of any model's sizes: no model need be loaded.

use ctkvr_core::{AttentionShape, LocalLayers, MemoryQuestion, SelectorOptions};
use napi_derive::napi;

use crate::error::{core_error, invalid_option};
use crate::model_info::JsLocalLayers;
use crate::options::{JsSelectorOptions, kv_format};

/// `NativeMemoryQuestion` of packages/native/src/binding.ts.
#[napi(object, object_to_js = false)]
pub struct JsMemoryQuestion {
    pub num_layers: u32,
    pub num_query_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    pub local_layers: Option<JsLocalLayers>,
    pub context_length: u32,
    pub num_tokens: Option<u32>,
    pub kv_format: Option<String>,
    pub selector: JsSelectorOptions,
}

/// `NativeMemoryNeed`.
#[napi(object, object_from_js = false)]
pub struct JsMemoryNeed {
    pub kv_bytes: f64,
    pub index_bytes: f64,
}

/// The most bytes that a sequence holds.
#[napi(catch_unwind)]
pub fn memory_need(question: JsMemoryQuestion) -> napi::Result<JsMemoryNeed> {
    let selector: SelectorOptions = question.selector.try_into()?;
    selector.check().map_err(core_error)?;
    if question.num_kv_heads == 0 {
        return Err(invalid_option("numKvHeads", "at least 1", "0"));
    }
    let max_tokens = question.context_length as usize;
    let shape = AttentionShape {
        num_layers: question.num_layers as usize,
        num_q_heads: question.num_query_heads as usize,
        num_kv_heads: question.num_kv_heads as usize,
        head_dim: question.head_dim as usize,
        local: question.local_layers.map(LocalLayers::from),
    };
    let need = MemoryQuestion {
        shape,
        format: kv_format(question.kv_format.as_deref())?,
        selector: &selector,
        max_tokens,
        num_tokens: question.num_tokens.map_or(max_tokens, |n| (n as usize).min(max_tokens)),
    }
    .need();
    Ok(JsMemoryNeed { kv_bytes: need.kv_bytes as f64, index_bytes: need.index_bytes as f64 })
}
