//! What goes into a [`crate::centroid_index::NativeCentroidIndex`] and what comes out, as JavaScript has it.

use ctkvr_core::{GivenCandidates, GivenTail, HeadAttention, TailInfo, TailSegmentInfo};
use napi::bindgen_prelude::{Float32Array, Uint8Array, Uint16Array, Uint32Array};
use napi_derive::napi;

use crate::counters::JsSelectionCounters;
use crate::options::JsSelectorOptions;

/// Input of `build`.
#[napi(object, object_to_js = false)]
pub struct JsBuildInput {
    pub keys: Float32Array,
    pub values: Float32Array,
    pub queries: Float32Array,
    pub head_dim: u32,
    pub group_size: u32,
    pub options: JsSelectorOptions,
    pub isa: String,
}

/// Input of `load`.
#[napi(object, object_to_js = false)]
pub struct JsLoadInput {
    pub image: Uint8Array,
    pub keys: Float32Array,
    pub values: Float32Array,
    pub isa: String,
}

/// Input of `append`.
#[napi(object, object_to_js = false)]
pub struct JsAppendInput {
    pub keys: Float32Array,
    pub values: Float32Array,
    pub queries: Float32Array,
    pub phase: String,
}

/// A tail as stored.
#[napi(object, object_from_js = false)]
pub struct JsTail {
    pub corrections: Float32Array,
    pub segments: Vec<JsTailSegment>,
}

/// Clusters of one stretch of positions.
#[napi(object, object_from_js = false)]
pub struct JsTailSegment {
    pub start: u32,
    pub made_at: u32,
    pub cluster_of: Uint16Array,
    pub keys: Float32Array,
    pub values: Float32Array,
}

impl From<TailInfo> for JsTail {
    fn from(tail: TailInfo) -> Self {
        let segment = |s: TailSegmentInfo| JsTailSegment {
            start: s.start as u32,
            made_at: s.made_at as u32,
            cluster_of: Uint16Array::new(s.cluster_of),
            keys: Float32Array::new(s.keys),
            values: Float32Array::new(s.values),
        };
        let segments = tail.segments.into_iter().map(segment).collect();
        Self { corrections: Float32Array::new(tail.corrections), segments }
    }
}

/// A tail at a query.
#[napi(object, object_from_js = false)]
pub struct JsTailAt {
    pub lse: Float32Array,
    pub value: Float32Array,
}

/// A block.
#[napi(object, object_from_js = false)]
pub struct JsBlockInfo {
    pub end: u32,
    pub made_at: u32,
    pub num_centroids: u32,
}

/// Result of `probe`.
#[napi(object, object_from_js = false)]
pub struct JsProbes {
    pub centroids: Uint32Array,
    pub similarities: Float32Array,
}

/// Result of `select`.
#[napi(object, object_from_js = false)]
pub struct JsSelection {
    pub candidates: Uint32Array,
    pub selected: Uint32Array,
}

/// Result of `attend`.
#[napi(object, object_from_js = false)]
pub struct JsHeadAttention {
    pub output: Float32Array,
    pub lse: Float32Array,
    pub mass: Float32Array,
    pub counters: JsSelectionCounters,
}

impl From<HeadAttention> for JsHeadAttention {
    fn from(attention: HeadAttention) -> Self {
        Self {
            output: Float32Array::new(attention.output),
            lse: Float32Array::new(attention.lse),
            mass: Float32Array::new(attention.mass),
            counters: attention.counters.into(),
        }
    }
}

/// Where given candidates may lie, and how many of them are read: `NativeRefineRules` of packages/native/src/binding.ts.
#[napi(object, object_to_js = false)]
pub struct JsRefineRules {
    pub num_tokens: u32,
    pub start: u32,
    pub end: u32,
    pub max_selected: u32,
    pub top_p: f64,
}

impl JsRefineRules {
    pub(crate) fn over<'a>(&self, candidates: &'a [u32], tail: Option<GivenTail<'a>>) -> GivenCandidates<'a> {
        GivenCandidates {
            candidates,
            num_tokens: self.num_tokens as usize,
            start: self.start as usize,
            end: self.end as usize,
            max_selected: self.max_selected as usize,
            top_p: self.top_p,
            tail,
        }
    }
}

/// A tail at the query at hand.
#[napi(object, object_to_js = false)]
pub struct JsGivenTail {
    pub lse: Float32Array,
    pub value: Float32Array,
}
