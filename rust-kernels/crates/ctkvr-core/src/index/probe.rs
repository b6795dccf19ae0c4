//! Looking a query up: the nearest centroids, the union of their lists, and the heaviest clusters of the tail.

use ctkvr_kernels::Kernels;

use crate::index::centroid_index::CentroidIndex;
use crate::index::centroid_segment::{CentroidSegment, keep_nearest, pool};
use crate::refine::ranked::Ranked;
use crate::tail::TailScratch;

/// What stands at a position that is a candidate.
pub const MARK: u8 = 255;

/// Reused memory of a probe.
#[derive(Default)]
pub struct ProbeScratch {
    /// Pooled vector of the query `[head_dim]`.
    pooled: Vec<f32>,
    similarities: Vec<f32>,
    order: Vec<Ranked>,
    marks: Vec<u8>,
}

impl CentroidIndex {
    /// The segment of a centroid, and its place in there. Ids count from the first centroid that probes look at.
    fn locate(&self, centroid: usize) -> (&CentroidSegment, usize) {
        let mut place = centroid;
        for segment in self.active() {
            if place < segment.num_centroids() {
                return (segment, place);
            }
            place -= segment.num_centroids();
        }
        unreachable!("centroid {centroid} of {}", self.num_centroids())
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, centroid: usize) -> Vec<u32> {
        let (segment, place) = self.locate(centroid);
        let mut out = Vec::new();
        segment.lists.for_each(segment.list_of(place), |p| out.push((segment.start + p) as u32));
        out
    }

    /// The most similar centroids of `num_probes` different lists, best first (ties: smaller id), with their similarities, cosines of
    /// pooled vectors. Returns the bytes read. `query` f32 `[group, head_dim]`.
    pub fn probe(
        &self,
        kernels: &Kernels,
        query: &[f32],
        num_probes: usize,
        scratch: &mut ProbeScratch,
        out: &mut Vec<(f32, u32)>,
    ) -> usize {
        self.active().iter().for_each(|segment| segment.prefetch_pooled(kernels));
        scratch.pooled.resize(self.newest().head_dim, 0.0);
        pool(query, &mut scratch.pooled);
        scratch.order.clear();
        let (mut bytes, mut first_id) = (0, 0);
        for segment in self.active() {
            let n = segment.num_centroids();
            bytes += segment.compare(kernels, &scratch.pooled, (n, first_id), &mut scratch.similarities, &mut scratch.order);
            first_id += n;
        }
        if let Some(tail) = &self.tail {
            // What comes after the probe arrives while it is made.
            tail.prefetch_keys(kernels);
        }
        keep_nearest(&mut scratch.order, num_probes, self.newest().per_list);
        out.clear();
        for near in &scratch.order {
            if out.len() == num_probes {
                break;
            }
            let (segment, place) = self.locate(near.id() as usize);
            let repeated = out.iter().any(|&(_, other)| {
                let (other_segment, other_place) = self.locate(other as usize);
                std::ptr::eq(segment, other_segment) && segment.list_of(place) == segment.list_of(other_place)
            });
            if !repeated {
                segment.prefetch_list(kernels, segment.list_of(place));
                out.push((near.score(), near.id()));
            }
        }
        bytes
    }

    /// Ascending union of the lists of `probes`, and of the positions that came after the first one's segment. Returns the bytes read.
    pub fn union(&self, kernels: &Kernels, probes: &[(f32, u32)], scratch: &mut ProbeScratch, out: &mut Vec<u32>) -> usize {
        // A byte a position: marking needs no read.
        let (start, marks) = (self.start(), &mut scratch.marks);
        marks.clear();
        marks.resize((self.end() - start).next_multiple_of(64), 0);
        let mut bytes = 0;
        for (rank, &(_, c)) in probes.iter().enumerate() {
            let (segment, place) = self.locate(c as usize);
            let list = segment.list_of(place);
            segment.lists.for_each(list, |p| marks[p] = MARK);
            bytes += segment.lists.encoded(list).len();
            if rank == 0 {
                marks[segment.end - start..self.end() - start].fill(MARK);
            }
        }
        list_marked(kernels, marks, start, out);
        bytes
    }

    /// Adds the positions of the `count` heaviest clusters of the tail to what [`CentroidIndex::union`] wrote to `scratch` and `out`, for a
    /// query f32 `[group, head_dim]`, times 1/sqrt(head_dim). `weighed` then says what all others add. Returns the bytes read.
    pub fn add_clusters(
        &self,
        kernels: &Kernels,
        scaled: &[f32],
        count: usize,
        (scratch, weighed): (&mut ProbeScratch, &mut TailScratch),
        out: &mut Vec<u32>,
    ) -> usize {
        let Some(tail) = &self.tail else { return 0 };
        let mut bytes = tail.weigh(kernels, scaled, out, weighed);
        if count > 0 {
            let (start, marks) = (self.start(), &mut scratch.marks);
            let taken = tail.take_heaviest(kernels, count, weighed, |p| marks[p - start] = MARK);
            list_marked(kernels, marks, start, out);
            bytes += taken;
        }
        bytes
    }
}

/// Writes the positions of all marks, ascending; the first mark is that of `start`, and there are whole words of 64.
pub fn list_marked(kernels: &Kernels, marks: &[u8], start: usize, out: &mut Vec<u32>) {
    out.clear();
    kernels.marked(marks, start as u32, out);
}
