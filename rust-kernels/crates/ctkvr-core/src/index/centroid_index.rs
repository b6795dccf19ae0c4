//! The query-centric inverted index of one KV head (paper section 3): a row of segments of centroids, each over the region as it was when
//! the segment was made. It grows by segments (`grow.rs`) and is cut by dropping them, so that a cut leaves exactly what was there before,
//! and forks share segments. Positions that came after the nearest centroid's segment are candidates all of them (`probe.rs`).

use std::sync::Arc;

use crate::index::centroid_segment::CentroidSegment;
use crate::tail::Tail;

/// Probes look at the newest segments that together have at most 3/2 as many centroids as the base, up to twice as many are held, so that a
/// cut finds again what probes looked at then. The base: [`crate::options::BuildOptions::base_count`].
pub(super) const ACTIVE_HALVES: usize = 3;
pub(super) const HELD_HALVES: usize = 4;

/// What an index is told beside its segments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexFigures {
    /// Centroids that the bounds on segments are counted from.
    pub num_base: usize,
    /// Fewer tokens than this, and probes looked at a segment that has been dropped since.
    pub known_from: usize,
    /// How much decode queries will miss that the tail cannot stand for; see [`crate::index::volatility::MeterReading::volatility`].
    pub volatility: f32,
    /// Nearest similarity below which a query is unlike what the prefill's queries found; see
    /// [`crate::index::volatility::MeterReading::similarity_floor`].
    pub similarity_floor: f32,
}

/// One KV head's index.
#[derive(Debug, Clone, PartialEq)]
pub struct CentroidIndex {
    /// Oldest first; never empty.
    pub(super) segments: Vec<Arc<CentroidSegment>>,
    /// First segment that probes look at.
    pub(super) active_from: usize,
    pub(super) figures: IndexFigures,
    pub(super) tail: Option<Tail>,
}

impl CentroidIndex {
    /// An index of segments that were stored, oldest first, at least one; see the fields.
    pub fn from_segments(segments: Vec<Arc<CentroidSegment>>, figures: IndexFigures, tail: Option<Tail>) -> Self {
        let mut index = Self { segments, active_from: 0, figures, tail };
        index.active_from = index.newest_within(index.segments.len(), ACTIVE_HALVES);
        index
    }

    /// All segments held, oldest first, also those that only a cut brings back.
    pub fn segments(&self) -> &[Arc<CentroidSegment>] {
        &self.segments
    }

    /// See [`IndexFigures`].
    pub fn figures(&self) -> IndexFigures {
        self.figures
    }

    /// Index of the oldest of the first `num_segments` segments such that it and the later ones have at most `halves` / 2 times as many
    /// centroids as the base; the last one always counts.
    pub(super) fn newest_within(&self, num_segments: usize, halves: usize) -> usize {
        let mut total = 0;
        let fits = |b: &&Arc<CentroidSegment>| {
            total += b.num_centroids();
            total * 2 <= halves * self.figures.num_base
        };
        let count = self.segments[..num_segments].iter().rev().take_while(fits).count();
        num_segments - count.max(1)
    }

    /// The segments that probes look at, oldest first.
    pub fn active(&self) -> &[Arc<CentroidSegment>] {
        &self.segments[self.active_from..]
    }

    pub(super) fn newest(&self) -> &CentroidSegment {
        &self.segments[self.segments.len() - 1]
    }

    /// First indexed position.
    pub fn start(&self) -> usize {
        self.newest().start
    }

    /// Where the indexed positions end.
    pub fn end(&self) -> usize {
        self.newest().end
    }

    /// Tokens that were stored when the newest segment was made.
    pub fn made_at(&self) -> usize {
        self.newest().made_at
    }

    /// Tokens whose queries have had their turn to become centroids.
    pub fn grown_at(&self) -> usize {
        self.newest().grown_at
    }

    /// Centroids that probes look at.
    pub fn num_centroids(&self) -> usize {
        self.active().iter().map(|b| b.num_centroids()).sum()
    }

    /// Values of one token's queries.
    pub fn row_len(&self) -> usize {
        self.newest().group * self.newest().head_dim
    }

    /// Bytes held (shared segments are counted in full).
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(|b| b.bytes()).sum::<usize>() + self.tail.as_ref().map_or(0, Tail::bytes)
    }

    /// Drops the centroids: from now on the index only says what stands for the keys whose values are not read.
    pub fn drop_centroids(&mut self) {
        self.segments.iter_mut().for_each(|segment| *segment = Arc::new(segment.bare()));
    }

    /// Whether it has no centroids any more.
    pub fn is_bare(&self) -> bool {
        self.newest().num_centroids() == 0
    }

    /// What stands for positions that are not read.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }
}
