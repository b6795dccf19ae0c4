//! Centroids made at one time over one region of one KV head (design 2.1; paper section 3): queries as centroids, and for each some
//! neighbouring ones a posting list of their best positions. A block never changes; an index is a row of blocks (centroid_index.rs).

use crate::kernels::Kernels;
use crate::posting_lists::PostingLists;
use crate::quantised::QuantisedRows;
use crate::ranked::{Ranked, keep_best};

/// Centroids that the coarse pass keeps for each one probed.
const COARSE_PER_PROBE: usize = 8;
/// Query heads compared with a centroid's in one go.
const HEADS_AT_ONCE: usize = 8;

/// Immutable; shared by forks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CentroidBlock {
    /// Lists are over positions `start..end`.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Tokens stored when it was made: a sequence cut shorter than that has it no more.
    pub(crate) made_at: usize,
    /// Tokens whose queries have had their turn to become centroids.
    pub(crate) grown_at: usize,
    pub(crate) group: usize,
    pub(crate) head_dim: usize,
    /// Neighbouring centroids that share a list; the last list may have fewer.
    pub(crate) per_list: usize,
    /// `[num_centroids, head_dim]`: normalised sum of the group's normalised queries.
    pub(crate) pooled: QuantisedRows,
    /// `[num_centroids * group, head_dim]`: normalised queries.
    pub(crate) unit: QuantisedRows,
    pub(crate) lists: PostingLists,
}

/// A query as probes compare it: normalised heads `[group, head_dim]` and their normalised sum `[head_dim]`.
#[derive(Default)]
pub(crate) struct UnitQuery {
    pub(crate) heads: Vec<f32>,
    pub(crate) pooled: Vec<f32>,
}

impl UnitQuery {
    /// From f32 `[group, head_dim]`.
    pub(crate) fn set(&mut self, query: &[f32], head_dim: usize) {
        self.heads.clear();
        self.heads.extend_from_slice(query);
        self.pooled.resize(head_dim, 0.0);
        pool(&mut self.heads, &mut self.pooled);
    }
}

impl CentroidBlock {
    pub(crate) fn num_centroids(&self) -> usize {
        self.pooled.scales.len()
    }

    /// Lists that so many centroids have.
    pub(crate) fn num_lists_of(num_centroids: usize, per_list: usize) -> usize {
        num_centroids.div_ceil(per_list)
    }

    /// The list of a centroid.
    pub(crate) fn list_of(&self, centroid: usize) -> usize {
        centroid / self.per_list
    }

    /// The middle one of as many centroids as should share a list, or the last.
    pub(crate) fn middle_of(&self, list: usize) -> usize {
        (list * self.per_list + self.per_list / 2).min(self.num_centroids() - 1)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.pooled.bytes() + self.unit.bytes() + self.lists.bytes()
    }

    /// Adds (similarity of pooled vectors, `first_id` + centroid) of the first `num_centroids` centroids to `out`. `similarities` is
    /// scratch. Returns the bytes read.
    pub(crate) fn coarse(
        &self,
        kernels: &Kernels,
        query: &UnitQuery,
        (num_centroids, first_id): (usize, usize),
        similarities: &mut Vec<f32>,
        out: &mut Vec<Ranked>,
    ) -> usize {
        let d = self.head_dim;
        debug_assert!(num_centroids <= self.num_centroids());
        similarities.resize(similarities.len().max(num_centroids), 0.0);
        // SAFETY: codes hold num_centroids * d values, similarities at least num_centroids.
        unsafe {
            let codes = self.pooled.codes.as_ptr();
            (kernels.score_codes)(query.pooled.as_ptr(), 0, codes, num_centroids, d, similarities.as_mut_ptr());
        }
        let scaled = similarities[..num_centroids].iter().zip(&self.pooled.scales);
        out.extend(scaled.enumerate().map(|(c, (s, scale))| Ranked::new(s * scale, (first_id + c) as u32)));
        num_centroids * (d + 4)
    }

    /// Mean over the group of the cosines between the query's heads and centroid c's.
    pub(crate) fn similarity(&self, kernels: &Kernels, query: &UnitQuery, c: usize) -> f32 {
        let (d, group) = (self.head_dim, self.group);
        let mut sum = 0.0;
        for first in (0..group).step_by(HEADS_AT_ONCE) {
            let heads = first..(first + HEADS_AT_ONCE).min(group);
            let mut dots = [0.0; HEADS_AT_ONCE];
            // SAFETY: the heads' rows of d codes lie side by side, as their queries of d values do.
            unsafe {
                let q = query.heads.as_ptr().add(first * d);
                let codes = self.unit.codes(c * group + first).as_ptr();
                (kernels.score_codes)(q, d, codes, heads.len(), d, dots.as_mut_ptr());
            }
            sum += heads.zip(dots).map(|(h, dot)| dot * self.unit.scales[c * group + h]).sum::<f32>();
        }
        sum / group as f32
    }

    /// Bytes that [`CentroidBlock::similarity`] reads.
    pub(crate) fn similarity_bytes(&self) -> usize {
        self.group * (self.head_dim + 4)
    }

    /// Asks for what `similarity` will read.
    pub(crate) fn prefetch_similarity(&self, kernels: &Kernels, c: usize) {
        let scales = &self.unit.scales[c * self.group..(c + 1) * self.group];
        // SAFETY: the rows of one centroid's heads lie side by side.
        unsafe {
            (kernels.prefetch)(self.unit.codes(c * self.group).as_ptr().cast(), self.group * self.head_dim);
            (kernels.prefetch)(scales.as_ptr().cast(), size_of_val(scales));
        }
    }

    /// Asks for what `coarse` will read of all centroids.
    pub(crate) fn prefetch_coarse(&self, kernels: &Kernels) {
        let QuantisedRows { codes, scales, .. } = &self.pooled;
        // SAFETY: the bytes are the block's own.
        unsafe {
            (kernels.prefetch)(codes.as_ptr().cast(), codes.len());
            (kernels.prefetch)(scales.as_ptr().cast(), size_of_val(&scales[..]));
        }
    }

    /// Asks for list l.
    pub(crate) fn prefetch_list(&self, kernels: &Kernels, list: usize) {
        let encoded = self.lists.encoded(list);
        // SAFETY: the bytes are the block's own.
        unsafe { (kernels.prefetch)(encoded.as_ptr(), encoded.len()) };
    }

    /// Without its centroids: what it covers is still told.
    pub(crate) fn bare(&self) -> Self {
        let nothing = QuantisedRows::zeros(0, self.head_dim);
        Self { pooled: nothing.clone(), unit: nothing, lists: PostingLists::default(), ..*self }
    }
}

/// Keeps, by the coarse similarity, what the fine step looks at for `num_probes`.
pub(crate) fn keep_near(order: &mut Vec<Ranked>, num_probes: usize) {
    keep_best(order, COARSE_PER_PROBE.saturating_mul(num_probes));
}

/// Normalises each head of `unit` in place and writes the normalised sum to `pooled`. A zero vector stays zero.
pub(crate) fn pool(unit: &mut [f32], pooled: &mut [f32]) {
    pooled.fill(0.0);
    for head in unit.chunks_exact_mut(pooled.len()) {
        normalise(head);
        pooled.iter_mut().zip(head).for_each(|(p, x)| *p += *x);
    }
    normalise(pooled);
}

/// To length 1; a zero vector stays.
pub(crate) fn normalise(x: &mut [f32]) {
    let norm = x.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > 0.0 {
        x.iter_mut().for_each(|v| *v /= norm);
    }
}
