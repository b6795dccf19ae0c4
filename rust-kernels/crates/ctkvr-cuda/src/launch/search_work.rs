//! What the data decides of one slot's search, which its bytes follow from.

use super::traffic::SlotShape;

/// How a slot is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchWay {
    /// Nothing is indexed: everything is read.
    #[default]
    None,
    /// A retrieval head: every key of the region is scored.
    ScoresAll,
    /// Lists of the probed centroids, and the heaviest clusters.
    Probes,
}

/// One slot's search in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchWork {
    pub way: SearchWay,
    /// Positions of the region.
    pub region: usize,
    pub centroids: usize,
    /// Centroids that were found nearest.
    pub probed: usize,
    /// Different offsets of their lists: two a list, less what neighbours share.
    pub list_offsets: usize,
    /// Different pieces of 16 bytes that the lists lie in.
    pub list_pieces: usize,
    /// Positions that the lists mark.
    pub united: usize,
    /// Clusters; 0 where there is no tail.
    pub clusters: usize,
    /// Those of them whose means are in 8 bits.
    pub clusters_in_q8: usize,
    pub cluster_segments: usize,
    /// Clusters whose positions become candidates; different offsets of their members; members; different words of marks that these lie in.
    pub heaviest: usize,
    pub member_offsets: usize,
    pub members: usize,
    pub member_words: usize,
    /// Query heads for which anything is left of the clusters.
    pub heads_with_rest: usize,
    /// Whether the query is an outlier that reads everything.
    pub repairs: bool,
    /// Candidates in the end, and those whose values are read.
    pub candidates: usize,
    pub selected: usize,
    /// Whether some of the candidates are chosen, and whether by a share of their weight.
    pub chooses: bool,
    pub by_share: bool,
}

impl SearchWork {
    /// Whether candidates lie in a list.
    pub fn is_listed(&self) -> bool {
        self.way == SearchWay::Probes && !self.repairs
    }

    /// Whether clusters stand for what is not read.
    pub fn has_tail(&self) -> bool {
        self.clusters > 0 && !self.repairs
    }

    /// Of what the launches of the slot's search and attention read, what an earlier one of them has read: the clusters' sizes, and the keys of
    /// what was scored and selected. A layer's are few: they still lie in the second-level cache.
    pub fn read_again(&self, shape: &SlotShape) -> usize {
        let sizes = if self.way == SearchWay::Probes { self.clusters * size_of::<f32>() } else { 0 };
        let keys = if self.chooses { self.selected * shape.row_bytes() } else { 0 };
        sizes + keys
    }

    /// Candidates that were scored and not selected.
    pub fn dropped(&self) -> usize {
        self.candidates - self.selected
    }
}
