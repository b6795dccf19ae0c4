//! Settings of a selector: which keys a decode step reads. Defaults and presets live in TypeScript (packages/core); here values
//! arrive resolved and are only checked.

use crate::error::{Error, Result};
use crate::magicpig::{MAGICPIG_DENSE_EVERY, MAX_HASH_BITS, MAX_HASH_TABLES};
use crate::quest::QUEST_DENSE_LAYERS;

/// Least and most centroids of a block where their number goes by the region.
const CENTROIDS_BY_REGION: (usize, usize) = (128, 384);

/// How decode chooses keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectorKind {
    /// Reads everything.
    Full,
    /// Scores every key exactly, reads the values of the best `max_selected`: the oracle of the comparisons.
    ExactTopK,
    /// Sinks and recent window only.
    Streaming,
    /// Positions chosen once, by the prompt's last queries (arXiv 2404.14469).
    SnapKv,
    /// Pages whose keys' ranges promise most (arXiv 2406.10774).
    Quest,
    /// A sample of the keys by locality-sensitive hashing, each weighted by how likely it was to be drawn (arXiv 2410.16179).
    MagicPig,
    /// The clusters of keys whose centres score best, the next ones estimated by their centres (arXiv 2505.02922).
    KeyClusters,
    /// Centroid then token indexing (arXiv 2512.15550) with tail compensation.
    Ctkvr,
}

/// Which of more queries than are wanted become the centroids of one head's index. The engine always takes the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CentroidChoice {
    /// The last ones (the paper).
    Last,
    /// Half the last ones, half of the earlier ones that lie farthest from those chosen before.
    Spread,
}

/// Settings of one sequence's selector. Field meanings: packages/core/src/selector-options.ts.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectorOptions {
    pub kind: SelectorKind,
    pub num_sink_tokens: usize,
    pub recent_window: usize,
    /// 0 = by the region, see [`SelectorOptions::centroid_count`].
    pub num_centroids: usize,
    pub centroids: CentroidChoice,
    /// Neighbouring centroids that share a list.
    pub centroids_per_list: usize,
    /// Generated tokens after which an index grows.
    pub append_size: usize,
    /// 0 = by the region, see [`SelectorOptions::posting_list_len`].
    pub list_len: usize,
    pub num_probes: usize,
    /// 0 = all candidates.
    pub max_selected: usize,
    /// Share of the candidates' weight that is enough, above 0; 1 = all of it, up to `max_selected`.
    pub top_p: f64,
    pub tail: bool,
    /// Positions of one of the tail's clusters, on average.
    pub cluster_size: usize,
    /// Clusters that add most to the tail, whose positions become candidates.
    pub cluster_probes: usize,
    /// Share of the (layer, KV head) pairs for which every key is scored, 0 to 1.
    pub exact_share: f64,
    /// Share of the heads' decode steps that may be dense because no centroid is similar to the query, 0 to 1; 0 = none.
    pub repair_share: f64,
    pub dense_below: usize,
    /// Whether each decode step audits one (layer, KV head), in turn.
    pub mass_sampling: bool,
    /// Hash functions joined in one table of [`SelectorKind::MagicPig`], and its tables.
    pub hash_bits: usize,
    pub hash_tables: usize,
    /// Whether the layers that a selector's authors leave dense are: [`SelectorOptions::is_dense_layer`].
    pub dense_layers: bool,
}

impl SelectorOptions {
    /// Everything is read.
    pub fn full() -> Self {
        Self {
            kind: SelectorKind::Full,
            num_sink_tokens: 16,
            recent_window: 256,
            num_centroids: 512,
            centroids: CentroidChoice::Last,
            centroids_per_list: 1,
            append_size: 256,
            list_len: 0,
            num_probes: 4,
            max_selected: 512,
            top_p: 1.0,
            tail: true,
            cluster_size: 32,
            cluster_probes: 16,
            exact_share: 0.0,
            repair_share: 0.0,
            dense_below: 0,
            mass_sampling: false,
            hash_bits: 10,
            hash_tables: 150,
            dense_layers: true,
        }
    }

    /// Queries that become centroids of a block over `num_keys` positions, where there are so many; for 0 as
    /// packages/core/src/selector-options.ts says.
    pub fn centroid_count(&self, num_keys: usize) -> usize {
        let (least, most) = self.centroid_bounds();
        (num_keys / 40).clamp(least, most)
    }

    /// Least and most that [`SelectorOptions::centroid_count`] gives.
    pub fn centroid_bounds(&self) -> (usize, usize) {
        if self.num_centroids == 0 { CENTROIDS_BY_REGION } else { (self.num_centroids, self.num_centroids) }
    }

    /// What the bounds on an index's blocks are counted from when the first one has `num_first` centroids. Where their number goes by
    /// the region it is the most there can be: a first block that is small because the text was short is not pushed out earlier.
    pub fn base_centroids(&self, num_first: usize) -> usize {
        if self.num_centroids == 0 { CENTROIDS_BY_REGION.1 } else { num_first }
    }

    /// Positions that a list over `num_keys` keeps for `group` query heads; for 0 as packages/core/src/selector-options.ts says.
    pub fn posting_list_len(&self, num_keys: usize, group: usize) -> usize {
        let of_group = group.saturating_mul(220).min(1536).min(num_keys / 5);
        (if self.list_len == 0 { of_group.max(512) } else { self.list_len }).min(num_keys)
    }

    /// Whether an index built with these settings serves `other`: what is chosen at decode may differ.
    pub fn same_build(&self, other: &Self) -> bool {
        let chosen_late = self.kind != SelectorKind::SnapKv;
        let build = |o: &Self| Self {
            repair_share: 0.0,
            max_selected: if chosen_late { 0 } else { o.max_selected },
            top_p: 1.0,
            dense_below: 0,
            mass_sampling: false,
            ..o.clone()
        };
        build(self) == build(other)
    }

    /// Whether every key of this layer is read, because the selector's authors found that it must be.
    pub fn is_dense_layer(&self, layer: usize) -> bool {
        self.dense_layers
            && match self.kind {
                SelectorKind::Quest => layer < QUEST_DENSE_LAYERS,
                SelectorKind::MagicPig => layer.is_multiple_of(MAGICPIG_DENSE_EVERY),
                _ => false,
            }
    }

    /// Refuses values no selector can work with.
    pub fn check(&self) -> Result<()> {
        for (option, value) in [
            ("recentWindow", self.recent_window),
            ("centroidsPerList", self.centroids_per_list),
            ("appendSize", self.append_size),
            ("numProbes", self.num_probes),
            ("clusterSize", self.cluster_size),
        ] {
            if value == 0 {
                return Err(Error::InvalidOption { option, expected: "at least 1".into(), actual: "0".into() });
            }
        }
        for (option, value, most) in
            [("hashBits", self.hash_bits, MAX_HASH_BITS), ("hashTables", self.hash_tables, MAX_HASH_TABLES)]
        {
            if !(1..=most).contains(&value) {
                return Err(Error::InvalidOption { option, expected: format!("from 1 to {most}"), actual: value.to_string() });
            }
        }
        for (option, share) in [("exactShare", self.exact_share), ("repairShare", self.repair_share)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::InvalidOption { option, expected: "from 0 to 1".into(), actual: share.to_string() });
            }
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let (expected, actual) = ("above 0 and at most 1".into(), self.top_p.to_string());
            return Err(Error::InvalidOption { option: "topP", expected, actual });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same cases as in packages/core/src/selector-options.test.ts.
    #[test]
    fn numbers_that_go_by_the_region() {
        let options = |num_centroids, list_len| SelectorOptions { num_centroids, list_len, ..SelectorOptions::full() };
        for (num_centroids, num_keys, count) in
            [(0, 100, 128), (0, 5159, 128), (0, 5160, 129), (0, 8000, 200), (0, 99_000, 384), (500, 8000, 500), (8, 8000, 8)]
        {
            assert_eq!(options(num_centroids, 0).centroid_count(num_keys), count, "{num_centroids} over {num_keys}");
        }
        for (list_len, num_keys, group, kept) in [
            (0, 100, 3, 100),
            (0, 7000, 1, 512),
            (0, 7000, 3, 660),
            (0, 2000, 7, 512),
            (0, 4000, 7, 800),
            (0, 16_000, 7, 1536),
            (2000, 16_000, 3, 2000),
            (2000, 1500, 3, 1500),
        ] {
            assert_eq!(options(0, list_len).posting_list_len(num_keys, group), kept, "{list_len} over {num_keys} for {group}");
        }
        assert_eq!((options(0, 0).base_centroids(128), options(500, 0).base_centroids(80)), (384, 80));
    }
}
