//! One KV head on plain arrays, without a model: the index, its stages one by one, and the whole decode attention. For users whose
//! keys and queries come from another runtime, and for tests of each stage.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use half::f16;

mod growth;
pub mod kept_queries;

pub use growth::AppendInput;
use kept_queries::KeptQueries;

use crate::attention::decode::{AttendScratch, HeadDecode, Layout, Part};
use crate::error::{Error, Result};
use crate::index::centroid_index::ProbeScratch;
use crate::index::image::{IndexImage, decode_image, encode_image};
use crate::index::spread_queries::spread_queries;
use crate::kv::f16_rows::F16Rows;
use crate::kv::head_kv::HeadKv;
use crate::options::{CentroidChoice, SelectorOptions};
use crate::selector::{Ctkvr, HeadSelector};
use crate::step::SelectionCounters;
use crate::tail::TailScratch;
use crate::tail::segment::TailSegment;
use ctkvr_kernels::{Kernels, KvFormat};

/// Plain arrays of one KV head.
pub struct HeadInput<'a> {
    /// f32 row-major `[num_tokens, head_dim]`, after rotary embedding; stored as f16.
    pub keys: &'a [f32],
    /// f32 `[num_tokens, head_dim]`; stored as f16.
    pub values: &'a [f32],
    /// f32 `[any, group, head_dim]`, after rotary embedding, oldest first; at most [`SelectorOptions::centroid_count`] become centroids, see
    /// `options.centroids`.
    pub queries: &'a [f32],
    pub head_dim: usize,
    pub group: usize,
    pub options: &'a SelectorOptions,
    /// Name of the kernels; empty = the fastest.
    pub isa: &'a str,
}

/// What a whole decode attention gives.
pub struct HeadAttention {
    /// f32 `[group, head_dim]`.
    pub output: Vec<f32>,
    /// log-sum-exp of everything that went into the output `[group]`.
    pub lse: Vec<f32>,
    /// Estimated share of the attention that was read `[group]`.
    pub mass: Vec<f32>,
    pub counters: SelectionCounters,
}

/// What [`HeadIndex::load`] needs besides the image: the keys and values that the index is of, as `HeadInput` has them.
pub struct ImageInput<'a> {
    pub image: &'a [u8],
    pub keys: &'a [f32],
    pub values: &'a [f32],
    pub isa: &'a str,
}

/// A block that probes look at; see `centroid_block.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockInfo {
    /// Where its lists end.
    pub end: usize,
    /// Tokens stored when it was made.
    pub made_at: usize,
    pub num_centroids: usize,
}

/// What stands for positions that are not read; see `tail.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct TailInfo {
    /// By how much each query head's log-sum-exp is raised `[group]`.
    pub corrections: Vec<f32>,
    pub segments: Vec<TailSegmentInfo>,
}

/// Clusters of one stretch of positions; see `tail_segment.rs`.
#[derive(Debug, Clone, PartialEq)]
pub struct TailSegmentInfo {
    pub start: usize,
    pub made_at: usize,
    /// The cluster of each position.
    pub cluster_of: Vec<u16>,
    /// Mean keys and mean values, f32 `[num_clusters, head_dim]`.
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// One KV head with its index.
pub struct HeadIndex {
    kernels: &'static Kernels,
    kv: HeadKv,
    num_tokens: usize,
    head_dim: usize,
    group: usize,
    options: SelectorOptions,
    /// `None` when a cut went back further than is known.
    ctkvr: Option<Arc<Ctkvr>>,
    /// Tokens stored at the first build and at the end of each turn since, ascending; empty without an index.
    built_at: Vec<usize>,
    kept: Arc<KeptQueries>,
}

impl HeadIndex {
    /// Stores keys and values and builds the index, on the calling thread.
    pub fn build(input: &HeadInput, cancel: &AtomicBool) -> Result<Self> {
        let (d, group, options) = (input.head_dim, input.group, input.options);
        let kernels = Kernels::named(input.isa, d)?;
        options.check()?;
        if group == 0 {
            return Err(Error::InvalidOption { option: "groupSize", expected: "at least 1".into(), actual: "0".into() });
        }
        let num_queries = input.queries.len() / (group * d);
        check_len("queries", input.queries.len(), num_queries.max(1) * group * d)?;
        check_finite("queries", input.queries)?;
        let mut head = Self {
            kernels,
            kv: HeadKv::new(d, KvFormat::F16),
            num_tokens: 0,
            head_dim: d,
            group,
            options: options.clone(),
            ctkvr: None,
            built_at: Vec::new(),
            kept: Arc::new(KeptQueries::new(group * d)),
        };
        head.store_first(input.keys, input.values)?;
        let queries = head.centroid_queries(input.queries);
        head.ctkvr = Some(Arc::new(head.first_block(&queries, cancel)?));
        head.built_at.push(head.num_tokens);
        Ok(head)
    }

    /// The queries that become the first block's centroids.
    fn centroid_queries<'a>(&self, queries: &'a [f32]) -> Cow<'a, [f32]> {
        let (row_len, count) = (self.row_len(), self.first_count());
        match self.options.centroids {
            CentroidChoice::Last => queries[queries.len().saturating_sub(count.saturating_mul(row_len))..].into(),
            CentroidChoice::Spread => {
                let chosen = spread_queries(queries, self.group, self.head_dim, count);
                chosen.into_iter().flat_map(|i| &queries[i * row_len..(i + 1) * row_len]).copied().collect()
            }
        }
    }

    /// Takes up an index that [`HeadIndex::save`] wrote, of these keys and values.
    pub fn load(input: &ImageInput) -> Result<Self> {
        let image = decode_image(input.image)?;
        let kernels = Kernels::named(input.isa, image.head_dim)?;
        check_len("keys", input.keys.len(), image.num_tokens * image.head_dim)?;
        let mut head = Self {
            kernels,
            kv: HeadKv::new(image.head_dim, KvFormat::F16),
            num_tokens: 0,
            head_dim: image.head_dim,
            group: image.group,
            ctkvr: image.index.map(|index| Arc::new(Ctkvr::new(index, 0.0, &image.options))),
            options: image.options,
            built_at: image.built_at,
            kept: Arc::new(image.kept),
        };
        head.store_first(input.keys, input.values)?;
        Ok(head)
    }

    /// The index and what it needs to go on as it would, without keys and values: see `index_image.rs`.
    pub fn save(&self) -> Vec<u8> {
        encode_image(&IndexImage {
            num_tokens: self.num_tokens,
            head_dim: self.head_dim,
            group: self.group,
            options: self.options.clone(),
            index: self.ctkvr.as_ref().map(|ctkvr| ctkvr.index.clone()),
            built_at: self.built_at.clone(),
            kept: KeptQueries::clone(&self.kept),
        })
    }

    /// Checks and stores the first tokens.
    fn store_first(&mut self, keys: &[f32], values: &[f32]) -> Result<()> {
        let num_tokens = keys.len() / self.head_dim;
        check_len("keys", keys.len(), num_tokens * self.head_dim)?;
        check_len("values", values.len(), keys.len())?;
        check_finite("keys", keys)?;
        check_finite("values", values)?;
        self.kv.reserve(0, num_tokens)?;
        self.store(0, keys, values);
        self.num_tokens = num_tokens;
        Ok(())
    }

    /// Writes rows to positions from `first` on, which were reserved.
    fn store(&mut self, first: usize, keys: &[f32], values: &[f32]) {
        let d = self.head_dim;
        for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
            // SAFETY: reserved by the caller; nobody else has the pages; a row holds d values.
            unsafe { self.kv.store(self.kernels, first + i, key.as_ptr(), value.as_ptr()) };
        }
    }

    /// Values of one token's queries.
    fn row_len(&self) -> usize {
        self.group * self.head_dim
    }

    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub fn group(&self) -> usize {
        self.group
    }

    pub fn options(&self) -> &SelectorOptions {
        &self.options
    }

    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Centroids that probes look at.
    pub fn num_centroids(&self) -> usize {
        self.ctkvr.as_ref().map_or(0, |ctkvr| ctkvr.index.num_centroids())
    }

    /// Indexed positions; what lies outside is always attended. Empty without an index: then everything is.
    pub fn region(&self) -> Range<usize> {
        let start = self.options.num_sink_tokens.min(self.num_tokens);
        self.ctkvr.as_ref().map_or(start..start, |ctkvr| ctkvr.index.start()..ctkvr.index.end())
    }

    /// The blocks that probes look at, oldest first: centroid ids count through them.
    pub fn blocks(&self) -> Vec<BlockInfo> {
        let info = |b: &Arc<crate::index::centroid_block::CentroidBlock>| BlockInfo {
            end: b.end,
            made_at: b.made_at,
            num_centroids: b.num_centroids(),
        };
        self.ctkvr.as_ref().map_or(Vec::new(), |ctkvr| ctkvr.index.active().iter().map(info).collect())
    }

    /// How much decode queries will miss that the tail cannot stand for, as the build measured it: 0 to 1. See `volatility.rs`.
    pub fn volatility(&self) -> f32 {
        self.ctkvr.as_ref().map_or(0.0, |ctkvr| ctkvr.index.volatility())
    }

    /// Nearest similarity below which a query is unlike what the build's queries found; -1 when the build could not tell.
    pub fn similarity_floor(&self) -> f32 {
        self.ctkvr.as_ref().map_or(-1.0, |ctkvr| ctkvr.index.similarity_floor())
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, c: usize) -> Result<Vec<u32>> {
        Ok(self.ctkvr_of(c)?.index.list(c))
    }

    /// What stands for the indexed positions that are not read; `None` without an index, or when its options say no tail.
    pub fn tail(&self) -> Option<TailInfo> {
        let tail = self.ctkvr.as_ref()?.index.tail()?;
        let widen = |rows: &F16Rows| rows.values().iter().map(|&x| f16::from_bits(x).to_f32()).collect();
        let info = |s: &Arc<TailSegment>| TailSegmentInfo {
            start: s.start,
            made_at: s.made_at,
            cluster_of: s.cluster_of.clone(),
            keys: widen(s.keys()),
            values: widen(s.values()),
        };
        Some(TailInfo { corrections: tail.corrections().to_vec(), segments: tail.segments().iter().map(info).collect() })
    }

    /// The tail of all indexed positions but `taken` (ascending), seen from a query (f32 `[group, head_dim]`): log-sum-exp `[group]`, mean
    /// value `[group, head_dim]`. -infinity and zeros where nothing is left, or without a tail.
    pub fn tail_at(&self, query: &[f32], taken: &[u32]) -> Result<(Vec<f32>, Vec<f32>)> {
        self.check_query(query)?;
        self.check_candidates(taken)?;
        let (mut lse, mut value) = (Vec::new(), Vec::new());
        match self.ctkvr.as_ref().and_then(|ctkvr| ctkvr.index.tail()) {
            Some(tail) => {
                let mut scratch = TailScratch::default();
                tail.weigh(self.kernels, &self.scaled(query), taken, &mut scratch);
                tail.rest(self.kernels, query.len(), &mut scratch, &mut lse, &mut value);
            }
            None => (lse, value) = (vec![f32::NEG_INFINITY; self.group], vec![0.0; query.len()]),
        }
        Ok((lse, value))
    }

    /// `candidates` (ascending, indexed), and the positions of the `cluster_probes` clusters out of which most is left without them for a
    /// query f32 `[group, head_dim]`; ascending. Without a tail, `candidates`.
    pub fn widen(&self, query: &[f32], candidates: &[u32]) -> Result<Vec<u32>> {
        self.check_query(query)?;
        self.check_candidates(candidates)?;
        let mut out = candidates.to_vec();
        if let Some(tail) = self.ctkvr.as_ref().and_then(|ctkvr| ctkvr.index.tail()) {
            let mut scratch = TailScratch::default();
            tail.weigh(self.kernels, &self.scaled(query), candidates, &mut scratch);
            tail.take_heaviest(self.kernels, self.options.cluster_probes, &mut scratch, |p| out.push(p as u32));
            out.sort_unstable();
            out.dedup();
        }
        Ok(out)
    }

    /// The nearest centroids, best first, with their similarities. `query` f32 `[group, head_dim]`.
    pub fn probe(&self, query: &[f32]) -> Result<Vec<(f32, u32)>> {
        self.check_query(query)?;
        let mut out = Vec::new();
        if let Some(ctkvr) = &self.ctkvr {
            ctkvr.index.probe(self.kernels, query, self.options.num_probes, &mut ProbeScratch::default(), &mut out);
        }
        Ok(out)
    }

    /// Ascending union of the lists of `centroids` and of the positions that came after the first one's block.
    pub fn candidates(&self, centroids: &[u32]) -> Result<Vec<u32>> {
        centroids.iter().try_for_each(|&c| self.ctkvr_of(c as usize).map(|_| ()))?;
        let probes: Vec<(f32, u32)> = centroids.iter().map(|&c| (0.0, c)).collect();
        let mut out = Vec::new();
        if let Some(ctkvr) = &self.ctkvr {
            ctkvr.index.union(self.kernels, &probes, &mut ProbeScratch::default(), &mut out);
        }
        Ok(out)
    }

    /// Exact scores f32 `[group, candidates]` of any stored positions.
    pub fn scores(&self, query: &[f32], candidates: &[u32]) -> Result<Vec<f32>> {
        self.check_query(query)?;
        if let Some(&p) = candidates.iter().find(|&&p| p as usize >= self.num_tokens) {
            let expected = format!("below {}", self.num_tokens);
            return Err(Error::InvalidOption { option: "candidates", expected, actual: p.to_string() });
        }
        let scaled = self.scaled(query);
        let mut out = vec![0.0; self.group * candidates.len()];
        // SAFETY: positions are stored; out holds group rows of candidates.len().
        unsafe {
            let rows = self.kv.keys_at(candidates);
            (self.kernels.score_rows)(scaled.as_ptr(), self.group, &rows, out.as_mut_ptr(), candidates.len());
        }
        Ok(out)
    }

    /// Probe, union and refine: candidates and selected positions, ascending.
    pub fn select(&self, query: &[f32]) -> Result<(Vec<u32>, Vec<u32>)> {
        let head = self.decode(query)?;
        Ok((head.candidates().to_vec(), head.selected().to_vec()))
    }

    /// The whole attention of a query at the end of the sequence.
    pub fn attend(&self, query: &[f32]) -> Result<HeadAttention> {
        Ok(self.finish(self.decode(query)?))
    }

    /// The rest of a step after its selection.
    pub fn finish(&self, mut head: HeadDecode) -> HeadAttention {
        // SAFETY: the only part, on one thread.
        unsafe { head.attend(self.kernels, &self.kv, Part::WHOLE, &mut AttendScratch::new(self.group)) };
        let (mut output, mut counters) = (vec![0.0; self.group * self.head_dim], SelectionCounters::default());
        head.finish(self.kernels, &self.kv, &mut output, &mut counters, None);
        let lse = (0..self.group).map(|h| head.lse(h)).collect();
        HeadAttention { output, lse, mass: head.masses().to_vec(), counters }
    }

    /// A decode step up to the selection.
    fn decode(&self, query: &[f32]) -> Result<HeadDecode> {
        if self.num_tokens == 0 {
            return Err(Error::InvalidOption { option: "keys", expected: "at least one token".into(), actual: "none".into() });
        }
        let region = self.region();
        let layout = Layout {
            len: self.num_tokens,
            start: region.start,
            end: region.end,
            max_selected: self.options.max_selected,
            top_p: self.options.top_p,
        };
        let selector = self.ctkvr.as_deref().filter(|_| !region.is_empty()).map(|ctkvr| ctkvr as &dyn HeadSelector);
        self.decode_with(query, layout, selector)
    }

    /// A decode step up to the selection, by another selector.
    pub fn decode_with(&self, query: &[f32], layout: Layout, selector: Option<&dyn HeadSelector>) -> Result<HeadDecode> {
        self.check_query(query)?;
        let mut head = HeadDecode::default();
        head.propose(self.kernels, query, self.group, layout, selector, false);
        // SAFETY: the only part, on one thread.
        unsafe {
            head.score(self.kernels, &self.kv, Part::WHOLE);
            head.weigh(self.kernels, Part::WHOLE);
        }
        head.select(self.kernels, selector);
        // SAFETY: as above.
        unsafe { head.average_dropped(self.kernels, selector) };
        Ok(head)
    }

    fn scaled(&self, query: &[f32]) -> Vec<f32> {
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        query.iter().map(|x| x * scale).collect()
    }

    fn check_query(&self, query: &[f32]) -> Result<()> {
        check_len("query", query.len(), self.group * self.head_dim)?;
        check_finite("query", query)
    }

    fn check_candidates(&self, candidates: &[u32]) -> Result<()> {
        let region = self.region();
        let outside = candidates.iter().find(|&&p| !region.contains(&(p as usize)));
        let descending = || candidates.windows(2).find(|pair| pair[0] >= pair[1]).map(|pair| &pair[1]);
        match outside.or_else(descending) {
            None => Ok(()),
            Some(p) => {
                let expected = format!("ascending, from {} to below {}", region.start, region.end);
                Err(Error::InvalidOption { option: "candidates", expected, actual: p.to_string() })
            }
        }
    }

    /// The index, which has a centroid c.
    fn ctkvr_of(&self, c: usize) -> Result<&Ctkvr> {
        let expected = format!("below {}", self.num_centroids());
        let refused = Error::InvalidOption { option: "centroid", expected, actual: c.to_string() };
        self.ctkvr.as_deref().filter(|ctkvr| c < ctkvr.index.num_centroids()).ok_or(refused)
    }
}

pub fn check_len(what: &'static str, actual: usize, expected: usize) -> Result<()> {
    if actual == expected { Ok(()) } else { Err(Error::ShapeMismatch { op: "headIndex", what, expected, actual }) }
}

pub fn check_finite(what: &'static str, data: &[f32]) -> Result<()> {
    match data.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "headIndex", what, index }),
    }
}
