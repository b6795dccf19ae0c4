//! What a segment of centroids is made of but for keys and values, which may be in another memory; and what of it needs none of them.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::index::centroid_segment::{CentroidSegment, pool};
use crate::index::posting_lists::PostingLists;
use crate::index::quantised::QuantisedRows;

/// Query rows that the CPU scores against all keys at once: enough to amortise a pass over the keys, few enough that the scores stay in
/// cache.
const ROWS_PER_PASS: usize = 28;

/// Who makes the lists takes it from here: the process's own memory (`segment_builder.rs`), or a device.
#[derive(Debug, Clone)]
pub struct SegmentPlan<'a> {
    /// Positions that lists choose from.
    pub region: Range<usize>,
    pub head_dim: usize,
    /// Tokens stored now, and tokens whose queries have had their turn to become centroids.
    pub made_at: usize,
    pub grown_at: usize,
    /// f32 `[num_centroids, group, head_dim]`, after rotary embedding, oldest first.
    pub queries: &'a [f32],
    pub group: usize,
    pub list_len: usize,
    /// Neighbouring centroids that share a list.
    pub per_list: usize,
}

impl<'a> SegmentPlan<'a> {
    /// # Errors
    /// `ShapeMismatch` when the queries are not whole ones or there are none, `NonFinite`.
    pub fn check(&self) -> Result<()> {
        let (num_centroids, row_len) = (self.num_centroids(), self.group * self.head_dim);
        if self.queries.len() != num_centroids * row_len || num_centroids == 0 {
            let (expected, actual) = (num_centroids.max(1) * row_len, self.queries.len());
            return Err(Error::ShapeMismatch { op: "buildIndex", what: "queries", expected, actual });
        }
        match self.queries.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(index) => Err(Error::NonFinite { op: "buildIndex", what: "queries", index }),
        }
    }

    pub fn num_centroids(&self) -> usize {
        self.queries.len() / (self.group * self.head_dim)
    }

    pub fn num_lists(&self) -> usize {
        CentroidSegment::num_lists_of(self.num_centroids(), self.per_list)
    }

    /// Centroid c's query, f32 `[group, head_dim]`.
    pub fn query(&self, c: usize) -> &'a [f32] {
        let row_len = self.group * self.head_dim;
        &self.queries[c * row_len..(c + 1) * row_len]
    }

    /// Lists that the CPU makes in one pass.
    pub fn lists_per_pass(&self) -> usize {
        (ROWS_PER_PASS / self.group / self.per_list).max(1)
    }

    /// Centroids whose lists come at once: a sampled query is looked up among those of earlier passes, whoever makes the lists.
    pub fn centroids_per_pass(&self) -> usize {
        self.lists_per_pass() * self.per_list
    }

    /// The segment, with the lists that are there so far.
    pub fn segment(&self, lists: PostingLists) -> CentroidSegment {
        let mut pooled = QuantisedRows::zeros(self.num_centroids(), self.head_dim);
        let mut row = vec![0.0; self.head_dim];
        for c in 0..self.num_centroids() {
            pool(self.query(c), &mut row);
            pooled.set(c, &row);
        }
        CentroidSegment { pooled, lists, ..self.bare_segment() }
    }

    /// A segment without centroids.
    pub fn bare_segment(&self) -> CentroidSegment {
        let &Self { head_dim, made_at, grown_at, group, per_list, .. } = self;
        let (pooled, lists) = (QuantisedRows::zeros(0, head_dim), PostingLists::default());
        let Range { start, end } = self.region;
        CentroidSegment { start, end, made_at, grown_at, group, head_dim, per_list, pooled, lists }
    }

    /// The lists over no positions.
    pub fn empty_lists(&self) -> PostingLists {
        let mut lists = PostingLists::default();
        (0..self.num_lists()).for_each(|_| lists.push(&[]));
        lists
    }
}
