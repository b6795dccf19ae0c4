//! The query-centric inverted index of one KV head (design 2.1 to 2.3; paper section 3): a row of blocks of centroids, each over the
//! region as it was when the block was made. It grows by blocks and is cut by dropping them, so that a cut leaves exactly what was there
//! before, and forks share blocks. Positions that came after the nearest centroid's block are candidates all of them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::index::block_builder::{BlockInput, build_block};
use crate::index::centroid_block::{CentroidBlock, keep_nearest, pool};
use crate::index::volatility::VolatilityMeter;
use crate::options::SelectorOptions;
use crate::refine::ranked::Ranked;
use crate::tail::{Tail, TailScratch};
use ctkvr_kernels::{Kernels, Rows};

/// What stands at a position that is a candidate.
pub const MARK: u8 = 255;
/// Probes look at the newest blocks that together have at most 3/2 as many centroids as the base, up to twice as many are held, so that a
/// cut finds again what probes looked at then. The base: [`SelectorOptions::base_centroids`].
const ACTIVE_HALVES: usize = 3;
const HELD_HALVES: usize = 4;

/// What the first block's build takes besides.
pub struct FirstInput<'a> {
    /// Keys that are read whatever the index says: sinks, window.
    pub always: [Rows<'a>; 2],
    pub options: &'a SelectorOptions,
}

/// One KV head's index.
#[derive(Debug, Clone, PartialEq)]
pub struct CentroidIndex {
    /// Oldest first; never empty.
    blocks: Vec<Arc<CentroidBlock>>,
    /// First block that probes look at.
    active_from: usize,
    /// Centroids that the bounds on blocks are counted from.
    num_base: usize,
    /// Fewer tokens than this, and probes looked at a block that has been dropped since.
    known_from: usize,
    volatility: f32,
    similarity_floor: f32,
    tail: Option<Tail>,
}

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
    /// Builds the first block on the calling thread. Also returns how sharply the head looks far back
    /// ([`VolatilityMeter::sharpness`]), which tells heads apart.
    pub fn build(kernels: &Kernels, input: &BlockInput, first: FirstInput, cancel: &AtomicBool) -> Result<(Self, f32)> {
        let num_first = input.queries.len() / (input.group * input.keys.head_dim()).max(1);
        let rows = (&input.keys, &input.values);
        let (place, shape) = ((input.start, input.made_at), (input.group, input.cluster_size));
        let tail = || Tail::build(kernels, rows, place, shape, cancel);
        let mut tail = input.tail.then(tail).transpose()?;
        let counts = (num_first, CentroidBlock::num_lists_of(num_first, input.per_list));
        let mut meter = VolatilityMeter::new(kernels, &first, tail.as_ref(), counts, input.centroids_per_pass());
        let block = build_block(kernels, input, Some(&mut meter), cancel)?;
        let (volatility, similarity_floor, sharpness) = (meter.volatility(), meter.similarity_floor(), meter.sharpness());
        let corrections = meter.corrections(input.group);
        if let Some(tail) = &mut tail {
            tail.correct(corrections);
        }
        let (blocks, num_base) = (vec![Arc::new(block)], first.options.base_centroids(num_first));
        Ok((Self { blocks, active_from: 0, num_base, known_from: 0, volatility, similarity_floor, tail }, sharpness))
    }

    /// An index of blocks that were stored, oldest first, at least one; see the fields.
    pub fn from_blocks(
        blocks: Vec<Arc<CentroidBlock>>,
        (num_base, known_from): (usize, usize),
        (volatility, similarity_floor): (f32, f32),
        tail: Option<Tail>,
    ) -> Self {
        let mut index = Self { blocks, active_from: 0, num_base, known_from, volatility, similarity_floor, tail };
        index.active_from = index.newest_within(index.blocks.len(), ACTIVE_HALVES);
        index
    }

    /// All blocks held, oldest first, also those that only a cut brings back.
    pub fn blocks(&self) -> &[Arc<CentroidBlock>] {
        &self.blocks
    }

    /// Centroids that the bounds on blocks are counted from, and the number of tokens that a cut must leave.
    pub fn bounds(&self) -> (usize, usize) {
        (self.num_base, self.known_from)
    }

    /// This index with one more block, and without the oldest ones where they would be too many.
    pub fn extended(&self, kernels: &Kernels, input: &BlockInput, cancel: &AtomicBool) -> Result<Self> {
        let mut grown = self.clone();
        let block = if self.is_bare() { input.bare_block() } else { build_block(kernels, input, None, cancel)? };
        let new = block.end - self.end();
        if let Some(tail) = &self.tail {
            let first = input.keys.len() - new;
            let rows = (&input.keys.part(first, new), &input.values.part(first, new));
            grown.tail = Some(tail.extended(kernels, rows, (self.end(), input.made_at), cancel)?);
        }
        grown.blocks.push(Arc::new(block));
        while grown.newest_within(grown.blocks.len(), HELD_HALVES) > 0 {
            let last_use = (1..grown.blocks.len()).find(|&r| grown.newest_within(r + 1, ACTIVE_HALVES) > 0);
            grown.known_from = last_use.map_or(input.made_at, |r| grown.blocks[r].made_at);
            grown.blocks.remove(0);
        }
        grown.active_from = grown.newest_within(grown.blocks.len(), ACTIVE_HALVES);
        Ok(grown)
    }

    /// Index of the oldest of the first `num_blocks` blocks such that it and the later ones have at most `halves` / 2 times as many
    /// centroids as the base; the last one always counts.
    fn newest_within(&self, num_blocks: usize, halves: usize) -> usize {
        let mut total = 0;
        let fits = |b: &&Arc<CentroidBlock>| {
            total += b.num_centroids();
            total * 2 <= halves * self.num_base
        };
        let count = self.blocks[..num_blocks].iter().rev().take_while(fits).count();
        num_blocks - count.max(1)
    }

    /// The blocks that probes look at, oldest first.
    pub fn active(&self) -> &[Arc<CentroidBlock>] {
        &self.blocks[self.active_from..]
    }

    /// This index as it was when only `len` tokens were stored; `None` when that is not known, or there was none.
    pub fn truncated(&self, len: usize) -> Option<Self> {
        let keep = self.blocks.partition_point(|b| b.made_at <= len);
        if keep == 0 || len < self.known_from {
            return None;
        }
        let mut cut = Self { blocks: self.blocks[..keep].to_vec(), ..self.clone() };
        cut.active_from = cut.newest_within(keep, ACTIVE_HALVES);
        cut.tail = self.tail.as_ref().map(|tail| tail.truncated(len));
        Some(cut)
    }

    /// How much decode queries will miss that the tail cannot stand for; see [`VolatilityMeter::volatility`].
    pub fn volatility(&self) -> f32 {
        self.volatility
    }

    /// Nearest similarity below which a query is unlike what the prefill's queries found; see [`VolatilityMeter::similarity_floor`].
    pub fn similarity_floor(&self) -> f32 {
        self.similarity_floor
    }

    fn newest(&self) -> &CentroidBlock {
        &self.blocks[self.blocks.len() - 1]
    }

    /// First indexed position.
    pub fn start(&self) -> usize {
        self.newest().start
    }

    /// Where the indexed positions end.
    pub fn end(&self) -> usize {
        self.newest().end
    }

    /// Tokens that were stored when the newest block was made.
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

    /// Bytes held (shared blocks are counted in full).
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|b| b.bytes()).sum::<usize>() + self.tail.as_ref().map_or(0, Tail::bytes)
    }

    /// Drops the centroids: from now on the index only says what stands for the keys whose values are not read.
    pub fn drop_centroids(&mut self) {
        self.blocks.iter_mut().for_each(|block| *block = Arc::new(block.bare()));
    }

    fn is_bare(&self) -> bool {
        self.newest().num_centroids() == 0
    }

    /// What stands for positions that are not read.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The block of a centroid, and its place in there. Ids count from the first centroid that probes look at.
    fn locate(&self, centroid: usize) -> (&CentroidBlock, usize) {
        let mut place = centroid;
        for block in self.active() {
            if place < block.num_centroids() {
                return (block, place);
            }
            place -= block.num_centroids();
        }
        unreachable!("centroid {centroid} of {}", self.num_centroids())
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, centroid: usize) -> Vec<u32> {
        let (block, place) = self.locate(centroid);
        let mut out = Vec::new();
        block.lists.for_each(block.list_of(place), |p| out.push((block.start + p) as u32));
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
        self.active().iter().for_each(|block| block.prefetch_pooled(kernels));
        scratch.pooled.resize(self.newest().head_dim, 0.0);
        pool(query, &mut scratch.pooled);
        scratch.order.clear();
        let (mut bytes, mut first_id) = (0, 0);
        for block in self.active() {
            let n = block.num_centroids();
            bytes += block.compare(kernels, &scratch.pooled, (n, first_id), &mut scratch.similarities, &mut scratch.order);
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
            let (block, place) = self.locate(near.id() as usize);
            let repeated = out.iter().any(|&(_, other)| {
                let (other_block, other_place) = self.locate(other as usize);
                std::ptr::eq(block, other_block) && block.list_of(place) == block.list_of(other_place)
            });
            if !repeated {
                block.prefetch_list(kernels, block.list_of(place));
                out.push((near.score(), near.id()));
            }
        }
        bytes
    }

    /// Ascending union of the lists of `probes`, and of the positions that came after the first one's block. Returns the bytes read.
    pub fn union(&self, kernels: &Kernels, probes: &[(f32, u32)], scratch: &mut ProbeScratch, out: &mut Vec<u32>) -> usize {
        // A byte a position: marking needs no read.
        let (start, marks) = (self.start(), &mut scratch.marks);
        marks.clear();
        marks.resize((self.end() - start).next_multiple_of(64), 0);
        let mut bytes = 0;
        let mut most = 64;
        for (rank, &(_, c)) in probes.iter().enumerate() {
            let (block, place) = self.locate(c as usize);
            let list = block.list_of(place);
            block.lists.for_each(list, |p| marks[p] = MARK);
            bytes += block.lists.encoded(list).len();
            if rank == 0 {
                marks[block.end - start..self.end() - start].fill(MARK);
                most += self.end() - block.end;
            }
        }
        list_marked(kernels, marks, start, bytes + most, out);
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
            list_marked(kernels, marks, start, out.len() + taken / size_of::<u32>() + 64, out);
            bytes += taken;
        }
        bytes
    }
}

/// Writes the positions of all marks, at most `most` - 64, ascending; the first mark is that of `start`.
pub fn list_marked(kernels: &Kernels, marks: &[u8], start: usize, most: usize, out: &mut Vec<u32>) {
    out.clear();
    out.reserve(most);
    // SAFETY: marks are whole words, and there is room for 64 more positions than are marked.
    unsafe {
        let len = (kernels.marked)(marks.as_ptr(), marks.len(), start as u32, out.as_mut_ptr());
        out.set_len(len);
    }
}
