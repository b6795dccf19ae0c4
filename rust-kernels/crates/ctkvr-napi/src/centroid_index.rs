//! One KV head's index on plain arrays, for users without a model.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_core::{GivenCandidates, GivenTail, HeadAttention, HeadIndex, HeadInput, SelectorOptions};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Uint32Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::counters::JsSelectionCounters;
use crate::error::{caught, closed, core_error};
use crate::options::JsSelectorOptions;

/// `NativeCentroidIndex` of packages/native/src/binding.ts.
#[napi(js_name = "CentroidIndex")]
pub struct NativeCentroidIndex {
    /// `None` after close.
    index: Option<Arc<HeadIndex>>,
}

impl NativeCentroidIndex {
    fn index(&self) -> napi::Result<&HeadIndex> {
        self.index.as_deref().ok_or_else(|| closed("index"))
    }
}

#[napi]
impl NativeCentroidIndex {
    /// Builds the index on a worker thread. The arrays are read there without a copy: do not change them before it resolves.
    #[napi(catch_unwind)]
    pub fn build(input: JsBuildInput) -> napi::Result<AsyncTask<Build>> {
        let options = input.options.try_into()?;
        Ok(AsyncTask::new(Build {
            keys: input.keys,
            values: input.values,
            queries: input.queries,
            head_dim: input.head_dim as usize,
            group: input.group_size as usize,
            options,
            isa: input.isa,
        }))
    }

    /// Tokens stored.
    #[napi(getter, catch_unwind)]
    pub fn num_tokens(&self) -> napi::Result<u32> {
        Ok(self.index()?.num_tokens() as u32)
    }

    /// Centroids.
    #[napi(getter, catch_unwind)]
    pub fn num_centroids(&self) -> napi::Result<u32> {
        Ok(self.index()?.num_centroids() as u32)
    }

    /// Bytes of the index without keys and values.
    #[napi(getter, catch_unwind)]
    pub fn index_bytes(&self) -> napi::Result<f64> {
        Ok(self.index()?.bytes() as f64)
    }

    /// How much the lists would miss, 0 to 1.
    #[napi(getter, catch_unwind)]
    pub fn volatility(&self) -> napi::Result<f64> {
        Ok(f64::from(self.index()?.volatility()))
    }

    /// Positions of a centroid's list, ascending.
    #[napi(catch_unwind)]
    pub fn list(&self, centroid: u32) -> napi::Result<Uint32Array> {
        self.index()?.list(centroid as usize).map(Uint32Array::new).map_err(core_error)
    }

    /// A centroid's tail.
    #[napi(catch_unwind)]
    pub fn tail(&self, centroid: u32) -> napi::Result<JsTail> {
        let (lse, value, key) = self.index()?.tail(centroid as usize).map_err(core_error)?;
        Ok(JsTail { lse: Float32Array::new(lse), value: Float32Array::new(value), key: Float32Array::new(key) })
    }

    /// The nearest centroids, best first.
    #[napi(catch_unwind)]
    pub fn probe(&self, query: &[f32]) -> napi::Result<JsProbes> {
        let (similarities, centroids): (Vec<f32>, Vec<u32>) = self.index()?.probe(query).map_err(core_error)?.into_iter().unzip();
        Ok(JsProbes { centroids: Uint32Array::new(centroids), similarities: Float32Array::new(similarities) })
    }

    /// Ascending union of lists.
    #[napi(catch_unwind)]
    pub fn candidates(&self, centroids: &[u32]) -> napi::Result<Uint32Array> {
        self.index()?.candidates(centroids).map(Uint32Array::new).map_err(core_error)
    }

    /// Exact scores.
    #[napi(catch_unwind)]
    pub fn scores(&self, query: &[f32], candidates: &[u32]) -> napi::Result<Float32Array> {
        self.index()?.scores(query, candidates).map(Float32Array::new).map_err(core_error)
    }

    /// Candidates and selected positions, ascending.
    #[napi(catch_unwind)]
    pub fn select(&self, query: &[f32]) -> napi::Result<JsSelection> {
        let (candidates, selected) = self.index()?.select(query).map_err(core_error)?;
        Ok(JsSelection { candidates: Uint32Array::new(candidates), selected: Uint32Array::new(selected) })
    }

    /// The whole decode attention of a query.
    #[napi(catch_unwind)]
    pub fn attend(&self, query: &[f32]) -> napi::Result<JsHeadAttention> {
        self.index()?.attend(query).map(JsHeadAttention::from).map_err(core_error)
    }

    /// Selection among given candidates.
    #[napi(catch_unwind)]
    pub fn select_among(&self, query: &[f32], candidates: &[u32], rules: JsRefineRules) -> napi::Result<Uint32Array> {
        let given = rules.over(candidates, None);
        self.index()?.select_among(query, &given).map(Uint32Array::new).map_err(core_error)
    }

    /// Attention over given candidates, with the tail that stands for the other keys.
    #[napi(catch_unwind)]
    pub fn attend_among(
        &self,
        query: &[f32],
        candidates: &[u32],
        rules: JsRefineRules,
        tail: Option<JsGivenTail>,
    ) -> napi::Result<JsHeadAttention> {
        let tail = tail.as_ref().map(|t| GivenTail { lse: &t.lse, value: &t.value });
        let given = rules.over(candidates, tail);
        self.index()?.attend_among(query, &given).map(JsHeadAttention::from).map_err(core_error)
    }

    /// Frees the index. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&mut self) {
        self.index = None;
    }
}

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

/// A centroid's tail at its own query.
#[napi(object, object_from_js = false)]
pub struct JsTail {
    pub lse: Float32Array,
    pub value: Float32Array,
    pub key: Float32Array,
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
    fn over<'a>(&self, candidates: &'a [u32], tail: Option<GivenTail<'a>>) -> GivenCandidates<'a> {
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

/// A build on a worker thread.
pub struct Build {
    keys: Float32Array,
    values: Float32Array,
    queries: Float32Array,
    head_dim: usize,
    group: usize,
    options: SelectorOptions,
    isa: String,
}

impl Task for Build {
    type Output = HeadIndex;
    type JsValue = NativeCentroidIndex;

    fn compute(&mut self) -> napi::Result<HeadIndex> {
        let input = HeadInput {
            keys: &self.keys,
            values: &self.values,
            queries: &self.queries,
            head_dim: self.head_dim,
            group: self.group,
            options: &self.options,
            isa: &self.isa,
        };
        caught(|| HeadIndex::build(&input, &AtomicBool::new(false)).map_err(core_error))
    }

    fn resolve(&mut self, _env: Env, index: HeadIndex) -> napi::Result<NativeCentroidIndex> {
        Ok(NativeCentroidIndex { index: Some(Arc::new(index)) })
    }
}
