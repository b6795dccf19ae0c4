//! A sequence that was read from a file, for JavaScript.

use std::sync::Arc;

use ctkvr_engine::RestoredSequence;
use ctkvr_kernels::KvFormat;
use napi_derive::napi;

use crate::engine_host::EngineHost;
use crate::options::{JsSelectorOptions, Settings};
use crate::sequence::NativeSequence;
use crate::slot::Slot;
use crate::snapshot::RestoredSlot;

/// `NativeRestoredSequence`.
#[napi(object, object_from_js = false)]
pub struct JsRestoredSequence {
    pub sequence: NativeSequence,
    pub max_tokens: u32,
    pub kv_format: String,
    pub selector: JsSelectorOptions,
    pub notes: String,
    pub same_arithmetic: bool,
}

impl JsRestoredSequence {
    /// On the JavaScript thread.
    pub fn new(host: Arc<EngineHost>, slot: RestoredSlot) -> Self {
        let RestoredSlot { restored, named, notes } = slot;
        let RestoredSequence { sequence, selector, same_arithmetic, max_tokens, kv_format, .. } = restored;
        let slot = Slot::of(sequence, Settings { selector, named: named.clone() });
        Self {
            sequence: NativeSequence::new(host, slot),
            max_tokens: max_tokens as u32,
            kv_format: if kv_format == KvFormat::Q8 { "q8" } else { "f16" }.into(),
            selector: named,
            notes,
            same_arithmetic,
        }
    }
}
