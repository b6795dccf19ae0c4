//! CTkvr's own settings. Field meanings: packages/core/src/selector-options.ts.

use ctkvr_kernels::KvFormat;

use crate::error::Result;
use crate::options::{check_at_least_one, check_share};
use crate::tail::ClusterOptions;

/// Which of more queries than are wanted become the centroids of one head's index. The engine always takes the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CentroidChoice {
    /// The last ones (the paper).
    Last,
    /// Half the last ones, half of the earlier ones that lie farthest from those chosen before.
    Spread,
}

/// How an index is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CtkvrBuildOptions {
    pub centroids: CentroidChoice,
    /// Neighbouring centroids that share a list.
    pub centroids_per_list: usize,
    /// 0 = by the region, see [`CtkvrBuildOptions::posting_list_len`].
    pub list_len: usize,
    /// Whether clusters stand for what is not read.
    pub tail: bool,
    /// Positions of one of the tail's clusters, on average.
    pub cluster_size: usize,
    /// Of the clusters' mean keys and mean values; a head on its own has f16.
    pub cluster_format: KvFormat,
    /// Share of the (layer, KV head) pairs that are retrieval heads, 0 to 1; see [`CtkvrSearchOptions::retrieval_cluster_share`].
    pub retrieval_head_share: f64,
}

/// How an index is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CtkvrSearchOptions {
    pub num_probes: usize,
    /// Clusters that add most to the tail, whose positions become candidates.
    pub cluster_probes: usize,
    /// The same of a retrieval head, as a share of its clusters, 0 to 1. At 1 (and without a tail) it scores every key, and keeps no lists.
    pub retrieval_cluster_share: f64,
    /// Share of the heads' decode steps that may be dense because no centroid is similar to the query, 0 to 1; 0 = none.
    pub repair_share: f64,
}

/// CTkvr's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CtkvrOptions {
    pub build: CtkvrBuildOptions,
    pub search: CtkvrSearchOptions,
}

impl Default for CtkvrOptions {
    fn default() -> Self {
        Self {
            build: CtkvrBuildOptions {
                centroids: CentroidChoice::Last,
                centroids_per_list: 1,
                list_len: 0,
                tail: true,
                cluster_size: 32,
                cluster_format: KvFormat::F16,
                retrieval_head_share: 0.0,
            },
            search: CtkvrSearchOptions { num_probes: 4, cluster_probes: 16, retrieval_cluster_share: 1.0, repair_share: 0.0 },
        }
    }
}

impl CtkvrBuildOptions {
    /// The tail's clusters; `None` without a tail.
    pub fn clusters(&self) -> Option<ClusterOptions> {
        self.tail.then_some(ClusterOptions { size: self.cluster_size, format: self.cluster_format })
    }

    /// Positions that a list over `num_keys` keeps for `group` query heads; for 0 as packages/core/src/selector-options.ts says.
    pub fn posting_list_len(&self, num_keys: usize, group: usize) -> usize {
        let of_group = group.saturating_mul(220).min(1536).min(num_keys / 5);
        (if self.list_len == 0 { of_group.max(512) } else { self.list_len }).min(num_keys)
    }
}

impl CtkvrOptions {
    /// Whether retrieval heads score every key.
    pub fn scores_all(&self) -> bool {
        self.search.retrieval_cluster_share >= 1.0 || !self.build.tail
    }

    /// Whether an index made with these settings serves `other`. A build looks its own queries up as a step would, so that how many probes
    /// there are is part of it.
    pub fn same_build(&self, other: &Self) -> bool {
        let without_repair = |o: &Self| Self { search: CtkvrSearchOptions { repair_share: 0.0, ..o.search }, ..*o };
        without_repair(self) == without_repair(other)
    }

    pub fn check(&self) -> Result<()> {
        check_at_least_one("centroidsPerList", self.build.centroids_per_list)?;
        check_at_least_one("numProbes", self.search.num_probes)?;
        check_at_least_one("clusterSize", self.build.cluster_size)?;
        check_share("retrievalHeadShare", self.build.retrieval_head_share)?;
        check_share("retrievalClusterShare", self.search.retrieval_cluster_share)?;
        check_share("repairShare", self.search.repair_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same cases as in packages/core/src/selector-options.test.ts.
    #[test]
    fn lists_that_go_by_the_region() {
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
            let options = CtkvrBuildOptions { list_len, ..CtkvrOptions::default().build };
            assert_eq!(options.posting_list_len(num_keys, group), kept, "{list_len} over {num_keys} for {group}");
        }
    }
}
