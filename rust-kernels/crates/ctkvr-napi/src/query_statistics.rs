//! Statistics of rotated queries on plain arrays, on worker threads. The arrays are read there without a copy: they stay unchanged until
//! the promise settles.

use ctkvr_core::{CosineByDistance, OverlapBySimilarity, OverlapInput};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Float64Array, Uint32Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::error::{caught, core_error};

/// How similar queries are to their neighbours.
#[napi(catch_unwind)]
pub fn cosine_by_distance(input: JsCosineInput) -> AsyncTask<Cosines> {
    AsyncTask::new(Cosines(input))
}

/// Whether similar queries have the same top keys.
#[napi(catch_unwind)]
pub fn overlap_by_similarity(input: JsOverlapInput) -> AsyncTask<Overlaps> {
    AsyncTask::new(Overlaps(input))
}

/// Input of `cosine_by_distance`.
#[napi(object, object_to_js = false)]
pub struct JsCosineInput {
    pub queries: Float32Array,
    pub group_size: u32,
    pub head_dim: u32,
    pub distances: Uint32Array,
}

/// Result of `cosine_by_distance`.
#[napi(object, object_from_js = false)]
pub struct JsCosineByDistance {
    pub distances: Uint32Array,
    pub count: Uint32Array,
    pub mean: Float64Array,
    pub min: Float64Array,
    pub max: Float64Array,
    pub standard_deviation: Float64Array,
    pub head_mean: Float64Array,
    pub head_min: Float64Array,
    pub head_max: Float64Array,
    pub head_standard_deviation: Float64Array,
}

/// `cosine_by_distance` on a worker thread.
pub struct Cosines(JsCosineInput);

impl Task for Cosines {
    type Output = CosineByDistance;
    type JsValue = JsCosineByDistance;

    fn compute(&mut self) -> napi::Result<CosineByDistance> {
        let JsCosineInput { queries, group_size, head_dim, distances } = &self.0;
        caught(|| ctkvr_core::cosine_by_distance(queries, *group_size as usize, *head_dim as usize, distances).map_err(core_error))
    }

    fn resolve(
        &mut self,
        _env: Env,
        CosineByDistance { count, group, heads }: CosineByDistance,
    ) -> napi::Result<JsCosineByDistance> {
        Ok(JsCosineByDistance {
            distances: Uint32Array::new(self.0.distances.to_vec()),
            count: Uint32Array::new(count),
            mean: Float64Array::new(group.mean),
            min: Float64Array::new(group.min),
            max: Float64Array::new(group.max),
            standard_deviation: Float64Array::new(group.standard_deviation),
            head_mean: Float64Array::new(heads.mean),
            head_min: Float64Array::new(heads.min),
            head_max: Float64Array::new(heads.max),
            head_standard_deviation: Float64Array::new(heads.standard_deviation),
        })
    }
}

/// Input of `overlap_by_similarity`.
#[napi(object, object_to_js = false)]
pub struct JsOverlapInput {
    pub queries: Float32Array,
    pub keys: Float32Array,
    pub group_size: u32,
    pub head_dim: u32,
    pub top_k: u32,
    pub pairs: Uint32Array,
}

/// Result of `overlap_by_similarity`.
#[napi(object, object_from_js = false)]
pub struct JsOverlapBySimilarity {
    pub similarity: Float64Array,
    pub overlap: Float64Array,
    pub head_similarity: Float64Array,
    pub head_overlap: Float64Array,
}

/// `overlap_by_similarity` on a worker thread.
pub struct Overlaps(JsOverlapInput);

impl Task for Overlaps {
    type Output = OverlapBySimilarity;
    type JsValue = JsOverlapBySimilarity;

    fn compute(&mut self) -> napi::Result<OverlapBySimilarity> {
        let JsOverlapInput { queries, keys, group_size, head_dim, top_k, pairs } = &self.0;
        let input = OverlapInput {
            queries,
            keys,
            group: *group_size as usize,
            head_dim: *head_dim as usize,
            top_k: *top_k as usize,
            pairs,
        };
        caught(|| ctkvr_core::overlap_by_similarity(&input).map_err(core_error))
    }

    fn resolve(&mut self, _env: Env, found: OverlapBySimilarity) -> napi::Result<JsOverlapBySimilarity> {
        Ok(JsOverlapBySimilarity {
            similarity: Float64Array::new(found.similarity),
            overlap: Float64Array::new(found.overlap),
            head_similarity: Float64Array::new(found.head_similarity),
            head_overlap: Float64Array::new(found.head_overlap),
        })
    }
}
