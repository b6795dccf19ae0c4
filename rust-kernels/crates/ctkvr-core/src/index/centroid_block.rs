//! Centroids made at one time over one region of one KV head (design 2.1; paper section 3): queries as centroids, and for each some
//! neighbouring ones a posting list of their best positions. A block never changes; an index is a row of blocks (centroid_index.rs).

use crate::index::posting_lists::PostingLists;
use crate::index::quantised::QuantisedRows;
use crate::refine::ranked::{Ranked, keep_best};
use ctkvr_kernels::Kernels;

/// Immutable; shared by forks.
#[derive(Debug, Clone, PartialEq)]
pub struct CentroidBlock {
    /// Lists are over positions `start..end`.
    pub start: usize,
    pub end: usize,
    /// Tokens stored when it was made: a sequence cut shorter than that has it no more.
    pub made_at: usize,
    /// Tokens whose queries have had their turn to become centroids.
    pub grown_at: usize,
    pub group: usize,
    pub head_dim: usize,
    /// Neighbouring centroids that share a list; the last list may have fewer.
    pub per_list: usize,
    /// `[num_centroids, head_dim]`: normalised sum of the group's normalised queries.
    pub pooled: QuantisedRows,
    pub lists: PostingLists,
}

impl CentroidBlock {
    pub fn num_centroids(&self) -> usize {
        self.pooled.scales.len()
    }

    /// Lists that so many centroids have.
    pub fn num_lists_of(num_centroids: usize, per_list: usize) -> usize {
        num_centroids.div_ceil(per_list)
    }

    /// The list of a centroid.
    pub fn list_of(&self, centroid: usize) -> usize {
        centroid / self.per_list
    }

    /// The middle one of as many centroids as should share a list, or the last.
    pub fn middle_of(&self, list: usize) -> usize {
        (list * self.per_list + self.per_list / 2).min(self.num_centroids() - 1)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pooled.bytes() + self.lists.bytes()
    }

    /// Adds (similarity, `first_id` + centroid) of the first `num_centroids` centroids to `out`, for the pooled vector of a query
    /// ([`pool`]). `similarities` is scratch. Returns the bytes read.
    pub fn compare(
        &self,
        kernels: &Kernels,
        query: &[f32],
        (num_centroids, first_id): (usize, usize),
        similarities: &mut Vec<f32>,
        out: &mut Vec<Ranked>,
    ) -> usize {
        let d = self.head_dim;
        debug_assert!(num_centroids <= self.num_centroids() && query.len() == d);
        similarities.resize(similarities.len().max(num_centroids), 0.0);
        // SAFETY: codes hold num_centroids * d values, similarities at least num_centroids.
        unsafe {
            let codes = self.pooled.codes.as_ptr();
            (kernels.score_codes)(query.as_ptr(), codes, num_centroids, d, similarities.as_mut_ptr());
        }
        let scaled = similarities[..num_centroids].iter().zip(&self.pooled.scales);
        out.extend(scaled.enumerate().map(|(c, (s, scale))| Ranked::new(s * scale, (first_id + c) as u32)));
        num_centroids * (d + 4)
    }

    /// Asks for what `compare` will read of all centroids.
    pub fn prefetch_pooled(&self, kernels: &Kernels) {
        let QuantisedRows { codes, scales, .. } = &self.pooled;
        // SAFETY: the bytes are the block's own.
        unsafe {
            (kernels.prefetch)(codes.as_ptr().cast(), codes.len());
            (kernels.prefetch)(scales.as_ptr().cast(), size_of_val(&scales[..]));
        }
    }

    /// Asks for list l.
    pub fn prefetch_list(&self, kernels: &Kernels, list: usize) {
        let encoded = self.lists.encoded(list);
        // SAFETY: the bytes are the block's own.
        unsafe { (kernels.prefetch)(encoded.as_ptr(), encoded.len()) };
    }

    /// Without its centroids: what it covers is still told.
    pub fn bare(&self) -> Self {
        Self { pooled: QuantisedRows::zeros(0, self.head_dim), lists: PostingLists::default(), ..*self }
    }
}

/// Keeps so many of the most similar centroids, best first, that centroids of `num_probes` different lists are among them.
pub fn keep_nearest(order: &mut Vec<Ranked>, num_probes: usize, per_list: usize) {
    keep_best(order, num_probes.saturating_sub(1).saturating_mul(per_list).saturating_add(1));
    order.sort_unstable();
}

/// Writes the normalised sum of a query's normalised heads (`query` f32 `[group, head_dim]`) to `pooled` `[head_dim]`: the direction that
/// stands for a group. A zero vector has none and adds nothing; zeros when no head has one.
pub fn pool(query: &[f32], pooled: &mut [f32]) {
    pooled.fill(0.0);
    for head in query.chunks_exact(pooled.len()) {
        let norm = length(head);
        if norm > 0.0 {
            pooled.iter_mut().zip(head).for_each(|(p, x)| *p += x / norm);
        }
    }
    normalise(pooled);
}

/// To length 1; a zero vector stays.
pub fn normalise(x: &mut [f32]) {
    let norm = length(x);
    if norm > 0.0 {
        x.iter_mut().for_each(|v| *v /= norm);
    }
}

fn length(x: &[f32]) -> f32 {
    x.iter().map(|v| v * v).sum::<f32>().sqrt()
}
