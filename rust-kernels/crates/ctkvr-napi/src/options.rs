//! Settings as they come from JavaScript, resolved and checked there; the Rust side checks again what could hurt it.

use std::sync::Arc;

use ctkvr_baselines::BaselineOptions;
use ctkvr_core::retriever::Retriever;
use ctkvr_core::{
    BuildOptions, CentroidChoice, Ctkvr, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions, HeadIndexOptions, SelectorOptions,
    StepOptions,
};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{SamplerOptions, TokenBias};
use napi_derive::napi;
use serde::{Deserialize, Serialize};

use crate::error::invalid_option;

/// `SelectorOptions` of packages/core/src/selector-options.ts.
#[napi(object)]
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JsSelectorOptions {
    pub method: String,
    pub num_sink_tokens: u32,
    pub recent_window: u32,
    pub num_centroids: u32,
    pub centroids: String,
    pub centroids_per_list: u32,
    pub append_size: u32,
    pub list_length: u32,
    pub num_probes: u32,
    pub max_selected: u32,
    pub top_p: f64,
    pub tail: bool,
    pub cluster_size: u32,
    /// Snapshots from before it was there have f16.
    #[serde(default = "f16")]
    pub cluster_format: String,
    pub cluster_probes: u32,
    /// Retrieval heads of snapshots from before it was there score every key.
    #[serde(default = "every_cluster")]
    pub retrieval_cluster_share: f64,
    pub retrieval_head_share: f64,
    pub repair_share: f64,
    pub dense_below: u32,
    pub mass_sampling: bool,
    pub hash_bits: u32,
    pub hash_tables: u32,
    pub dense_layers: bool,
}

fn every_cluster() -> f64 {
    1.0
}

fn f16() -> String {
    "f16".into()
}

impl TryFrom<&JsSelectorOptions> for HeadIndexOptions {
    type Error = napi::Error;

    /// What all methods share, and CTkvr's.
    fn try_from(options: &JsSelectorOptions) -> napi::Result<Self> {
        let step = StepOptions {
            num_sink_tokens: options.num_sink_tokens as usize,
            recent_window: options.recent_window as usize,
            max_selected: options.max_selected as usize,
            top_p: options.top_p,
            dense_below: options.dense_below as usize,
            mass_sampling: options.mass_sampling,
        };
        let centroids = match options.centroids.as_str() {
            "last" => CentroidChoice::Last,
            "spread" => CentroidChoice::Spread,
            other => return Err(invalid_option("centroids", "last or spread", other)),
        };
        let made = CtkvrBuildOptions {
            centroids,
            centroids_per_list: options.centroids_per_list as usize,
            list_len: options.list_length as usize,
            tail: options.tail,
            cluster_size: options.cluster_size as usize,
            cluster_format: format_named("clusterFormat", &options.cluster_format)?,
            retrieval_head_share: options.retrieval_head_share,
        };
        let search = CtkvrSearchOptions {
            num_probes: options.num_probes as usize,
            cluster_probes: options.cluster_probes as usize,
            retrieval_cluster_share: options.retrieval_cluster_share,
            repair_share: options.repair_share,
        };
        let build = BuildOptions { num_queries: options.num_centroids as usize, append_size: options.append_size as usize };
        Ok(Self { step, build, ctkvr: CtkvrOptions { build: made, search } })
    }
}

impl TryFrom<JsSelectorOptions> for SelectorOptions {
    type Error = napi::Error;

    fn try_from(options: JsSelectorOptions) -> napi::Result<Self> {
        let HeadIndexOptions { step, build, ctkvr } = (&options).try_into()?;
        let baseline = BaselineOptions {
            max_selected: step.max_selected,
            hash_bits: options.hash_bits as usize,
            hash_tables: options.hash_tables as usize,
            dense_layers: options.dense_layers,
        };
        let method: Arc<dyn Retriever> = match options.method.as_str() {
            "ctkvr" => Arc::new(Ctkvr { options: ctkvr }),
            name => ctkvr_baselines::named(name, &baseline).ok_or_else(|| {
                let expected = "full, exactTopK, streaming, snapkv, quest, magicpig, keyClusters or ctkvr";
                invalid_option("method", expected, name)
            })?,
        };
        Ok(Self { step, build, method })
    }
}

/// A sequence's settings, and how JavaScript named them.
#[derive(Clone)]
pub struct Settings {
    pub selector: SelectorOptions,
    pub named: JsSelectorOptions,
}

impl TryFrom<JsSelectorOptions> for Settings {
    type Error = napi::Error;

    fn try_from(named: JsSelectorOptions) -> napi::Result<Self> {
        Ok(Self { selector: named.clone().try_into()?, named })
    }
}

/// `KvFormat` of packages/core/src/kv-format.ts.
pub fn kv_format(name: Option<&str>) -> napi::Result<KvFormat> {
    name.map_or(Ok(KvFormat::F16), |name| format_named("kvFormat", name))
}

fn format_named(option: &'static str, name: &str) -> napi::Result<KvFormat> {
    match name {
        "f16" => Ok(KvFormat::F16),
        "q8" => Ok(KvFormat::Q8),
        other => Err(invalid_option(option, "f16 or q8", other)),
    }
}

/// `NativeSamplerOptions` of packages/native/src/binding.ts.
#[napi(object, object_to_js = false)]
pub struct JsSamplerOptions {
    pub temperature: f64,
    pub top_k: u32,
    pub typical_p: f64,
    pub top_p: f64,
    pub min_p: f64,
    pub repeat_penalty: f64,
    pub frequency_penalty: f64,
    pub presence_penalty: f64,
    pub penalty_window: u32,
    pub answer_start: u32,
    pub seed: u32,
}

#[napi(object, object_to_js = false)]
pub struct JsTokenBias {
    pub token: i32,
    pub bias: f64,
}

impl From<JsTokenBias> for TokenBias {
    fn from(JsTokenBias { token, bias }: JsTokenBias) -> Self {
        Self { token, bias: bias as f32 }
    }
}

impl From<JsSamplerOptions> for SamplerOptions {
    fn from(options: JsSamplerOptions) -> Self {
        Self {
            temperature: options.temperature as f32,
            top_k: options.top_k,
            typical_p: options.typical_p as f32,
            top_p: options.top_p as f32,
            min_p: options.min_p as f32,
            repeat_penalty: options.repeat_penalty as f32,
            frequency_penalty: options.frequency_penalty as f32,
            presence_penalty: options.presence_penalty as f32,
            penalty_window: options.penalty_window as usize,
            answer_start: options.answer_start as usize,
            seed: options.seed,
        }
    }
}
