//! MagicPIG (Chen et al. 2024, arXiv 2410.16179) as a selector: keys are hashed by the signs of random projections into `hash_tables`
//! tables of 2^`hash_bits` buckets; a query draws the keys that share a bucket with it in at least two tables, and the score of each is
//! lowered by the log of the probability that it was drawn, so that the drawn ones estimate attention over all (section 4). As in the
//! authors' code (10 bits, 150 tables by default): keys are centred by their mean before they are hashed, the probability is that of
//! SimHash for the angle between query and centred key, 1e-4 is added to it, and every 16th layer from the first is dense. Each query head
//! draws its own sample; `hash_bits` and `hash_tables`, not `max_selected`, say how large it is, and cutting it would bias the estimate.
//! Ours: a position drawn by several heads of a group is read once.

use std::f32::consts::PI;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::kv::panels::{mean_row, widen_rows};
use crate::options::SelectorOptions;
use crate::selector::{Candidates, HeadSelector, Proposal, Query, UNDRAWN};
use ctkvr_kernels::{Gemm, Kernels, Rows};

/// Every how many layers one reads everything, from the first on.
pub const MAGICPIG_DENSE_EVERY: usize = 16;
/// A table's offsets stay far smaller than its positions.
pub const MAX_HASH_BITS: usize = 15;
/// Ten times what the authors use.
pub const MAX_HASH_TABLES: usize = 1500;
/// Tables in which a key must share the query's bucket.
const MIN_COLLISIONS: u16 = 2;
/// Added to the probability of being drawn, so that a key that hardly could be does not weigh everything.
const LEAST_PROBABILITY: f32 = 1e-4;
/// Keys hashed at once.
const ROWS_PER_PASS: usize = 64;
/// Where the projections' random numbers start.
const SEED: u64 = 0x6d61_6769_6370_6967;

/// Random directions, the same for all heads and layers.
struct Projections {
    head_dim: usize,
    hash_bits: usize,
    hash_tables: usize,
    seed: u64,
    /// f32 `[head_dim, stride]`; column `t * hash_bits + b` is bit b of table t. Standard normal, rounded to multiples of 2^-7, so that
    /// small-integer vectors are hashed without rounding; columns past the last bit are 0.
    columns: Vec<f32>,
    stride: usize,
}

/// The projections made last: every head of a build wants the same ones.
static LAST: Mutex<Weak<Projections>> = Mutex::new(Weak::new());

impl Projections {
    /// Those of this shape and seed, made or already there.
    fn shared(head_dim: usize, hash_bits: usize, hash_tables: usize, seed: u64) -> Arc<Self> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = (head_dim, hash_bits, hash_tables, seed);
        if let Some(held) = last.upgrade().filter(|p| (p.head_dim, p.hash_bits, p.hash_tables, p.seed) == wanted) {
            return held;
        }
        let made = Arc::new(Self::new(head_dim, hash_bits, hash_tables, seed));
        *last = Arc::downgrade(&made);
        made
    }

    fn new(head_dim: usize, hash_bits: usize, hash_tables: usize, seed: u64) -> Self {
        let num_columns = hash_bits * hash_tables;
        // The matrix product takes columns by the 16.
        let stride = num_columns.next_multiple_of(16);
        let mut columns = vec![0.0; head_dim * stride];
        let mut random = seed;
        for row in columns.chunks_exact_mut(stride) {
            row[..num_columns].iter_mut().for_each(|x| *x = (normal(&mut random) * 128.0).round() as f32 / 128.0);
        }
        Self { head_dim, hash_bits, hash_tables, seed, columns, stride }
    }

    /// Bucket of every vector in every table: `out` u16 `[count, hash_tables]`. `vectors` f32 `[count, head_dim]`, `projected` scratch.
    fn hash(&self, kernels: &Kernels, vectors: &[f32], projected: &mut Vec<f32>, out: &mut Vec<u16>) {
        let count = vectors.len() / self.head_dim;
        projected.clear();
        projected.resize(count * self.stride, 0.0);
        let product = Gemm {
            a: vectors.as_ptr(),
            lda: self.head_dim,
            b: self.columns.as_ptr(),
            ldb: self.stride,
            c: projected.as_mut_ptr(),
            ldc: self.stride,
            m: count,
            n: self.stride,
            k: self.head_dim,
            accumulate: false,
        };
        // SAFETY: the matrices hold what the product says; the stride is a multiple of 16.
        unsafe { (kernels.gemm)(&product) };
        out.clear();
        for row in projected.chunks_exact(self.stride) {
            let bits = row.chunks_exact(self.hash_bits).take(self.hash_tables);
            out.extend(bits.map(|bits| bits.iter().rev().fold(0, |bucket, x| bucket << 1 | u16::from(*x > 0.0))));
        }
    }
}

/// One standard normal number (SplitMix64, Box-Muller).
fn normal(state: &mut u64) -> f64 {
    let mut uniform = || {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // In (0, 1): never a logarithm of 0.
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (-2.0 * uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos()
}

/// Probability that a key at this cosine to the query shares its bucket in at least two of `tables` tables of `bits` bits.
fn draw_probability(cosine: f32, bits: usize, tables: usize) -> f32 {
    let same = (1.0 - cosine.clamp(-1.0, 1.0).acos() / PI).powi(bits as i32);
    let other = 1.0 - same;
    1.0 - other.powi(tables as i32 - 1) * (tables as f32 * same + other)
}

/// One KV head's hash tables.
pub struct MagicPig {
    projections: Arc<Projections>,
    start: usize,
    len: usize,
    /// Where each bucket's positions begin: u32 `[hash_tables, 2^hash_bits + 1]`.
    offsets: Vec<u32>,
    /// Positions in the region by bucket, ascending in each: u32 `[hash_tables, len]`.
    members: Vec<u32>,
    /// Mean key f32 `[head_dim]`, and the length of each key less that f32 `[len]`.
    mean: Vec<f32>,
    norms: Vec<f32>,
}

impl MagicPig {
    /// `keys`: the region's, in order, whose first is at position `start`.
    pub fn build(kernels: &Kernels, keys: &Rows, start: usize, options: &SelectorOptions, cancel: &AtomicBool) -> Result<Self> {
        let projections = Projections::shared(keys.head_dim(), options.hash_bits, options.hash_tables, SEED);
        Self::with_projections(kernels, keys, start, projections, cancel)
    }

    fn with_projections(
        kernels: &Kernels,
        keys: &Rows,
        start: usize,
        projections: Arc<Projections>,
        cancel: &AtomicBool,
    ) -> Result<Self> {
        let (d, len, tables) = (keys.head_dim(), keys.len(), projections.hash_tables);
        let num_buckets = 1usize << projections.hash_bits;
        let mean = mean_row(kernels, keys);
        let mut norms = Vec::with_capacity(len);
        let mut buckets: Vec<u16> = Vec::with_capacity(len * tables);
        let (mut projected, mut hashed) = (Vec::new(), Vec::new());
        let mut centred = vec![0.0; ROWS_PER_PASS * d];
        for first in (0..len).step_by(ROWS_PER_PASS) {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let count = ROWS_PER_PASS.min(len - first);
            widen_rows(kernels, keys, first, count, &mut centred);
            for row in centred[..count * d].chunks_exact_mut(d) {
                row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m);
                norms.push(row.iter().map(|x| x * x).sum::<f32>().sqrt());
            }
            projections.hash(kernels, &centred[..count * d], &mut projected, &mut hashed);
            buckets.extend_from_slice(&hashed);
        }
        let mut offsets = vec![0; tables * (num_buckets + 1)];
        let mut members = vec![0; tables * len];
        let mut next = vec![0; num_buckets];
        for (t, (offsets, members)) in offsets.chunks_exact_mut(num_buckets + 1).zip(members.chunks_exact_mut(len)).enumerate() {
            for bucket in buckets[t..].iter().step_by(tables) {
                offsets[*bucket as usize + 1] += 1;
            }
            for b in 0..num_buckets {
                offsets[b + 1] += offsets[b];
            }
            next.copy_from_slice(&offsets[..num_buckets]);
            for (position, bucket) in buckets[t..].iter().step_by(tables).enumerate() {
                let place = &mut next[*bucket as usize];
                members[*place as usize] = position as u32;
                *place += 1;
            }
        }
        Ok(Self { projections, start, len, offsets, members, mean, norms })
    }

    /// Positions that share bucket b of table t.
    fn bucket(&self, t: usize, b: u16) -> &[u32] {
        let first = t * ((1 << self.projections.hash_bits) + 1) + b as usize;
        let range = self.offsets[first] as usize..self.offsets[first + 1] as usize;
        &self.members[t * self.len..][range]
    }
}

/// Reused memory of a draw.
#[derive(Default)]
pub struct SampleScratch {
    projected: Vec<f32>,
    buckets: Vec<u16>,
    /// Shared buckets of each key of the region, `[group, len]`.
    collisions: Vec<u16>,
    /// Whether a head drew a candidate, `[group, candidates]`.
    drawn: Vec<bool>,
}

impl HeadSelector for MagicPig {
    fn propose(&self, query: &Query, out: &mut Proposal) {
        let Projections { head_dim, hash_tables, .. } = *self.projections;
        let group = query.query.len() / head_dim;
        let scratch = &mut out.sample;
        self.projections.hash(query.kernels, query.query, &mut scratch.projected, &mut scratch.buckets);
        scratch.collisions.clear();
        scratch.collisions.resize(group * self.len, 0);
        let mut num_members = 0;
        for (buckets, collisions) in scratch.buckets.chunks_exact(hash_tables).zip(scratch.collisions.chunks_exact_mut(self.len)) {
            for (t, b) in buckets.iter().enumerate() {
                let members = self.bucket(t, *b);
                num_members += members.len();
                members.iter().for_each(|&p| collisions[p as usize] += 1);
            }
        }
        out.positions.clear();
        let drawn = |h: usize, p: usize| scratch.collisions[h * self.len + p] >= MIN_COLLISIONS;
        out.positions.extend((0..self.len).filter(|&p| (0..group).any(|h| drawn(h, p))).map(|p| p as u32));
        scratch.drawn.clear();
        scratch.drawn.extend((0..group).flat_map(|h| out.positions.iter().map(move |&p| drawn(h, p as usize))));
        out.positions.iter_mut().for_each(|p| *p += self.start as u32);
        out.candidates = Candidates::Listed;
        out.reads_all = true;
        out.num_probed = group * hash_tables;
        // Two offsets a bucket, its positions, and the length of every drawn key. The projections are one copy for all heads and layers.
        out.bytes_read =
            size_of::<u32>() * (2 * group * hash_tables + num_members) + size_of::<f32>() * (head_dim + out.positions.len());
    }

    fn reweigh(&self, query: &Query, proposal: &Proposal, scores: &mut [f32]) -> bool {
        let Projections { head_dim, hash_bits, hash_tables, .. } = *self.projections;
        let n = proposal.positions.len();
        let root = (head_dim as f32).sqrt();
        for ((head, scores), drawn) in
            query.query.chunks_exact(head_dim).zip(scores.chunks_exact_mut(n)).zip(proposal.sample.drawn.chunks_exact(n))
        {
            let length = dot(head, head).sqrt();
            let centre = dot(head, &self.mean);
            for ((score, position), drawn) in scores.iter_mut().zip(&proposal.positions).zip(drawn) {
                if !*drawn {
                    *score = UNDRAWN;
                    continue;
                }
                let norm = self.norms[*position as usize - self.start];
                let cosine = (*score * root - centre) / (length * norm).max(f32::MIN_POSITIVE);
                *score -= (draw_probability(cosine, hash_bits, hash_tables) + LEAST_PROBABILITY).ln();
            }
        }
        true
    }

    fn bytes(&self) -> usize {
        size_of::<u32>() * (self.offsets.len() + self.members.len()) + size_of::<f32>() * (self.mean.len() + self.norms.len())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rows::{Random, dot, store, tables};

    const D: usize = 16;
    const START: usize = 3;
    static GO: AtomicBool = AtomicBool::new(false);

    /// Small-integer keys whose mean is 0, `START` others before them: with rounded projections nothing is rounded on the way to a hash.
    fn keys(random: &mut Random, n: usize) -> Vec<f32> {
        let mut keys = random.integers((START + n) * D, 3);
        for i in 0..n / 2 {
            for c in 0..D {
                keys[(START + n - 1 - i) * D + c] = -keys[(START + i) * D + c];
            }
        }
        if n % 2 == 1 {
            keys[(START + n / 2) * D..][..D].fill(0.0);
        }
        keys
    }

    /// Whether the definition draws a key for one head: the buckets compared bit by bit in f64.
    fn is_drawn(p: &Projections, key: &[f32], query: &[f32]) -> bool {
        let bit = |x: &[f32], column: usize| {
            let direction: Vec<f32> = (0..D).map(|c| p.columns[c * p.stride + column]).collect();
            dot(x, &direction) > 0.0
        };
        let same = |t: usize| (0..p.hash_bits).all(|b| bit(key, t * p.hash_bits + b) == bit(query, t * p.hash_bits + b));
        (0..p.hash_tables).filter(|t| same(*t)).count() >= 2
    }

    #[test]
    fn draws_and_weighs_what_the_definition_says() -> Result<()> {
        for kernels in tables(D) {
            for (n, bits, num_tables) in [(1, 2, 5), (2, 1, 2), (130, 4, 20), (131, 6, 40), (40, 3, 1)] {
                let mut random = Random(n as u64);
                let stored = keys(&mut random, n);
                let kv = store(&stored, &stored, D);
                let p = Arc::new(Projections::new(D, bits, num_tables, 11));
                let pig = MagicPig::with_projections(kernels, &kv.keys(START, n), START, p.clone(), &GO)?;
                let group = 3;
                let query = random.integers(group * D, 4);
                let scaled: Vec<f32> = query.iter().map(|x| x / 4.0).collect();
                let what = format!("{} n {n} bits {bits} tables {num_tables}", kernels.name);
                let key = |i: usize| &stored[(START + i) * D..][..D];
                let drawn: Vec<Vec<bool>> =
                    query.chunks_exact(D).map(|q| (0..n).map(|i| is_drawn(&p, key(i), q)).collect()).collect();
                let union: Vec<usize> = (0..n).filter(|i| drawn.iter().any(|d| d[*i])).collect();
                let mut out = Proposal::default();
                let asked = Query { query: &query, scaled: &scaled, max_selected: 1, kernels };
                pig.propose(&asked, &mut out);
                assert_eq!(out.positions, union.iter().map(|i| (START + i) as u32).collect::<Vec<_>>(), "{what}");
                assert!(out.reads_all);
                if union.is_empty() {
                    continue;
                }
                let exact: Vec<f64> = scaled.chunks_exact(D).flat_map(|q| union.iter().map(|&i| dot(q, key(i)))).collect();
                let mut scores: Vec<f32> = exact.iter().map(|x| *x as f32).collect();
                assert!(pig.reweigh(&asked, &out, &mut scores));
                for h in 0..group {
                    for (u, &i) in union.iter().enumerate() {
                        let (q, score) = (&query[h * D..][..D], scores[h * union.len() + u]);
                        if !drawn[h][i] {
                            assert_eq!(score, UNDRAWN, "{what}");
                            continue;
                        }
                        let lengths = (dot(q, q) * dot(key(i), key(i))).sqrt();
                        let cosine: f64 = if lengths == 0.0 { 0.0 } else { (dot(q, key(i)) / lengths).clamp(-1.0, 1.0) };
                        let same = (1.0 - cosine.acos() / std::f64::consts::PI).powi(bits as i32);
                        let l = num_tables as i32;
                        let w = 1.0 - (1.0 - same).powi(l) - f64::from(l) * same * (1.0 - same).powi(l - 1);
                        let expected = exact[h * union.len() + u] - (w + 1e-4).ln();
                        // A cosine near 1 is off by 3 * 2^-24, its angle by the root of twice that, 6e-4 at most, a probability by
                        // 2e-4 * bits, the sum w by tables times that at most, over w: the drawn keys here have w of 0.01 and more.
                        let budget = 2e-4 * bits as f64 * (num_tables as f64 * (1.0 - same).powi(l - 2)).max(1.0) / (w + 1e-4);
                        assert!((f64::from(score) - expected).abs() <= budget, "{what} head {h} key {i}: {score} for {expected}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Over many independent projections, each key is drawn as often as the correction says, and the estimated sum of weights is the
    /// true one on average.
    #[test]
    fn the_estimate_is_unbiased() -> Result<()> {
        let (n, rounds) = (60, 400);
        let mut random = Random(5);
        let stored = keys(&mut random, n);
        let query = random.integers(D, 3);
        let scaled: Vec<f32> = query.iter().map(|x| x / 4.0).collect();
        let kv = store(&stored, &stored, D);
        let kernels = tables(D)[0];
        let true_sum: f64 = (0..n).map(|i| dot(&scaled, &stored[(START + i) * D..][..D]).exp()).sum();
        let (mut times, mut estimates) = (vec![0; n], Vec::new());
        for seed in 0..rounds {
            let p = Arc::new(Projections::new(D, 4, 30, 1 + seed * 7919));
            let pig = MagicPig::with_projections(kernels, &kv.keys(START, n), START, p, &GO)?;
            let mut out = Proposal::default();
            let asked = Query { query: &query, scaled: &scaled, max_selected: 0, kernels };
            pig.propose(&asked, &mut out);
            out.positions.iter().for_each(|p| times[*p as usize - START] += 1);
            let mut scores: Vec<f32> = out.positions.iter().map(|&p| dot(&scaled, &stored[p as usize * D..][..D]) as f32).collect();
            if !scores.is_empty() {
                pig.reweigh(&asked, &out, &mut scores);
            }
            estimates.push(scores.iter().map(|s| f64::from(*s).exp()).sum::<f64>());
        }
        for (i, times) in times.into_iter().enumerate() {
            let key = &stored[(START + i) * D..][..D];
            let w = f64::from(draw_probability((dot(&query, key) / (dot(&query, &query) * dot(key, key)).sqrt()) as f32, 4, 30));
            // Five standard deviations of a share over the rounds, and at least one draw's worth.
            let bound = 5.0 * (w * (1.0 - w) / rounds as f64).sqrt() + 1.0 / rounds as f64;
            let share = f64::from(times) / rounds as f64;
            assert!((share - w).abs() <= bound, "key {i}: drawn {share}, said {w}");
        }
        let mean = estimates.iter().sum::<f64>() / rounds as f64;
        let variance = estimates.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (rounds - 1) as f64;
        // Four standard errors, and 1e-4 over the smallest probability that carries weight (0.05).
        let bound = 4.0 * (variance / rounds as f64).sqrt() + true_sum * 1e-4 / 0.05;
        assert!((mean - true_sum).abs() <= bound, "mean {mean} for {true_sum}, bound {bound}");
        Ok(())
    }

    #[test]
    fn projections_are_the_same_every_time_and_shared() {
        let (a, b) = (Projections::shared(D, 3, 5, SEED), Projections::shared(D, 3, 5, SEED));
        assert_eq!(a.columns, Projections::new(D, 3, 5, SEED).columns);
        assert_eq!(a.columns, b.columns);
        assert!(a.columns.chunks_exact(a.stride).all(|row| row[15..].iter().all(|x| *x == 0.0)));
        let used: Vec<f64> = a.columns.iter().filter(|x| **x != 0.0).map(|x| f64::from(*x)).collect();
        let square = used.iter().map(|x| x * x).sum::<f64>() / used.len() as f64;
        // 240 squares of standard normals: mean 1, standard deviation sqrt(2 / 240) = 0.09.
        assert!((square - 1.0).abs() < 0.4, "{square}");
    }
}
