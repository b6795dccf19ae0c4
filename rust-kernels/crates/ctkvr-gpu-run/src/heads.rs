//! Made-up KV heads: keys, values and queries of a text that stays with a topic for a while, and the index that the core builds of them.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::retriever::BuildInput;
use ctkvr_core::{BuildOptions, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions};
use ctkvr_kernels::testing::{Random, TestPages};
use ctkvr_kernels::{Kernels, KvFormat};

use crate::Result;
use crate::shape::Shape;

/// Different heads that are made; the model's are copies of them, each in memory of its own.
pub const MADE: usize = 4;
/// First and last positions that every step reads.
pub const SINKS: usize = 16;
pub const WINDOW: usize = 256;
/// Positions whose values are read: the default for groups of 4.
pub const MAX_SELECTED: usize = 640;

/// How an index is built of them.
pub const BUILD: BuildOptions = BuildOptions { num_queries: 0, append_size: 256 };

const TOPICS: usize = 64;
/// Positions that stay with a topic.
const STRETCH: usize = 48;
/// How much of a vector is its topic's.
const TOPIC_SHARE: f32 = 0.8;

/// The settings that `balanced` resolves to for groups of 4.
pub fn options() -> CtkvrOptions {
    let build = CtkvrBuildOptions { centroids_per_list: 2, ..CtkvrOptions::default().build };
    CtkvrOptions {
        build,
        search: CtkvrSearchOptions { num_probes: 3, cluster_probes: 12, repair_share: 0.0, ..CtkvrOptions::default().search },
    }
}

pub struct MadeHead {
    pub pages: TestPages,
    /// Searched by centroids, and by scoring every key.
    pub indexed: CtkvrHead,
    pub retrieval: CtkvrHead,
    topics: Vec<f32>,
    /// What its index is built of: f32 `[any, group, head_dim]`, values of f16.
    pub queries: Vec<f32>,
    pub build_ms: f64,
}

impl MadeHead {
    /// Some heads, each made by a thread of its own.
    pub fn all(shape: &Shape) -> Result<Vec<Self>> {
        let made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..MADE as u64).map(|seed| scope.spawn(move || Self::new(shape, seed).map_err(|e| e.to_string()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("making a head panicked".into()))).collect()
        });
        made.into_iter().map(|head| Ok(head?)).collect()
    }

    fn new(shape: &Shape, seed: u64) -> Result<Self> {
        let (d, len) = (shape.head_dim, shape.context);
        let mut random = Random(seed);
        let topics = random.values(TOPICS * d, 1.7);
        let kernels = Kernels::named("", d)?;
        let (keys, values) = (text(&mut random, &topics, shape), text(&mut random, &topics, shape));
        let pages = TestPages::new(&keys, &values, d, KvFormat::F16);
        let region = SINKS..len - WINDOW;
        let queries = (0..BUILD.query_count(region.len())).flat_map(|_| query_of(&mut random, &topics, shape));
        // As an engine holds them.
        let queries: Vec<f32> = queries.map(|x| half::f16::from_f32(x).to_f32()).collect();
        let cancel = AtomicBool::new(false);
        let input = BuildInput {
            kernels,
            layer: 0,
            keys: pages.keys(0, len),
            values: pages.values(0, len),
            region,
            queries: &queries,
            group: shape.group,
            grown_at: len,
            options: BUILD,
            cancel: &cancel,
        };
        let begun = Instant::now();
        let indexed = CtkvrHead::build(&input, options())?;
        let build_ms = begun.elapsed().as_secs_f64() * 1e3;
        let retrieval = indexed.as_retrieval_head();
        Ok(Self { pages, indexed, retrieval, topics, queries, build_ms })
    }

    /// What a token asks: f32 `[group, head_dim]`.
    pub fn query(&self, random: &mut Random, shape: &Shape) -> Vec<f32> {
        query_of(random, &self.topics, shape)
    }
}

/// Vectors f32 `[context, head_dim]` of a text that stays with a topic for a while.
fn text(random: &mut Random, topics: &[f32], shape: &Shape) -> Vec<f32> {
    let mut topic = 0;
    let mut vector = |i: usize| {
        if i.is_multiple_of(STRETCH) {
            topic = random.index(TOPICS);
        }
        near(random, &topics[topic * shape.head_dim..][..shape.head_dim])
    };
    (0..shape.context).flat_map(&mut vector).collect()
}

/// A vector near a topic.
fn near(random: &mut Random, topic: &[f32]) -> Vec<f32> {
    topic.iter().map(|x| TOPIC_SHARE * x + random.unit() * 1.7).collect()
}

/// Queries of a group, near the same topic.
fn query_of(random: &mut Random, topics: &[f32], shape: &Shape) -> Vec<f32> {
    let topic = random.index(TOPICS);
    (0..shape.group).flat_map(|_| near(random, &topics[topic * shape.head_dim..][..shape.head_dim])).collect()
}

/// Whether a head of the model scores every key: 8 of 100, the default.
pub fn is_retrieval(head: usize) -> bool {
    head % 12 == 3
}
