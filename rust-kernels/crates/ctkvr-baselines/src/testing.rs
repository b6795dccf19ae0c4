//! Settings of any method by name in one flat value, for the tests of the crates above, which go over all methods.

use std::sync::Arc;

use ctkvr_core::retriever::Retriever;
use ctkvr_core::{
    BuildOptions, CentroidChoice, Ctkvr, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions, SelectorOptions, StepOptions,
};

use ctkvr_kernels::KvFormat;

use crate::registry::{BaselineOptions, named};

/// See the fields of the types that it becomes.
#[derive(Debug, Clone)]
pub struct Settings {
    pub method: &'static str,
    pub num_sink_tokens: usize,
    pub recent_window: usize,
    pub num_centroids: usize,
    pub centroids: CentroidChoice,
    pub centroids_per_list: usize,
    pub append_size: usize,
    pub list_len: usize,
    pub num_probes: usize,
    pub max_selected: usize,
    pub top_p: f64,
    pub tail: bool,
    pub cluster_size: usize,
    pub cluster_format: KvFormat,
    pub cluster_probes: usize,
    pub retrieval_cluster_share: f64,
    pub retrieval_head_share: f64,
    pub repair_share: f64,
    pub dense_below: usize,
    pub mass_sampling: bool,
    pub hash_bits: usize,
    pub hash_tables: usize,
    pub dense_layers: bool,
}

impl Settings {
    /// Everything is read.
    pub fn full() -> Self {
        let (step, build) = (StepOptions::default(), BuildOptions::default());
        let CtkvrOptions { build: made, search } = CtkvrOptions::default();
        Self {
            method: "full",
            num_sink_tokens: step.num_sink_tokens,
            recent_window: step.recent_window,
            num_centroids: build.num_queries,
            centroids: made.centroids,
            centroids_per_list: made.centroids_per_list,
            append_size: build.append_size,
            list_len: made.list_len,
            num_probes: search.num_probes,
            max_selected: step.max_selected,
            top_p: step.top_p,
            tail: made.tail,
            cluster_size: made.cluster_size,
            cluster_format: made.cluster_format,
            cluster_probes: search.cluster_probes,
            retrieval_cluster_share: search.retrieval_cluster_share,
            retrieval_head_share: made.retrieval_head_share,
            repair_share: search.repair_share,
            dense_below: step.dense_below,
            mass_sampling: step.mass_sampling,
            hash_bits: 10,
            hash_tables: 150,
            dense_layers: true,
        }
    }

    /// The method with its own settings. Panics on a name that no method has.
    pub fn retriever(&self) -> Arc<dyn Retriever> {
        let Self { max_selected, hash_bits, hash_tables, dense_layers, .. } = *self;
        let build = CtkvrBuildOptions {
            centroids: self.centroids,
            centroids_per_list: self.centroids_per_list,
            list_len: self.list_len,
            tail: self.tail,
            cluster_size: self.cluster_size,
            cluster_format: self.cluster_format,
            retrieval_head_share: self.retrieval_head_share,
        };
        let Self { num_probes, cluster_probes, retrieval_cluster_share, repair_share, .. } = *self;
        let search = CtkvrSearchOptions { num_probes, cluster_probes, retrieval_cluster_share, repair_share };
        match self.method {
            "ctkvr" => Arc::new(Ctkvr { options: CtkvrOptions { build, search } }),
            name => named(name, &BaselineOptions { max_selected, hash_bits, hash_tables, dense_layers })
                .unwrap_or_else(|| panic!("no method is called {name}")),
        }
    }
}

impl From<Settings> for SelectorOptions {
    fn from(settings: Settings) -> Self {
        let Settings { num_sink_tokens, recent_window, max_selected, top_p, dense_below, mass_sampling, .. } = settings;
        Self {
            step: StepOptions { num_sink_tokens, recent_window, max_selected, top_p, dense_below, mass_sampling },
            build: BuildOptions { num_queries: settings.num_centroids, append_size: settings.append_size },
            method: settings.retriever(),
        }
    }
}
