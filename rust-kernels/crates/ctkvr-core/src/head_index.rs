//! One KV head on plain arrays, without a model: the index, its stages one by one, and the whole decode attention. For users whose
//! keys and queries come from another runtime, and for tests of each stage.

use std::sync::atomic::AtomicBool;

use crate::backend::SelectionCounters;
use crate::block_builder::BlockInput;
use crate::centroid_block::CentroidBlock;
use crate::centroid_index::{CentroidIndex, MeterInput, ProbeScratch};
use crate::decode::{AttendScratch, HeadDecode, Layout, Part};
use crate::error::{Error, Result};
use crate::kernels::Kernels;
use crate::kv::HeadKv;
use crate::options::SelectorOptions;
use crate::selector::{Ctkvr, HeadSelector};

/// Plain arrays of one KV head.
pub struct HeadInput<'a> {
    /// f32 row-major `[num_tokens, head_dim]`, after rotary embedding; stored as f16.
    pub keys: &'a [f32],
    /// f32 `[num_tokens, head_dim]`; stored as f16.
    pub values: &'a [f32],
    /// f32 `[num_centroids, group, head_dim]`, after rotary embedding, oldest first.
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

/// One KV head with its index.
pub struct HeadIndex {
    kernels: &'static Kernels,
    kv: HeadKv,
    num_tokens: usize,
    head_dim: usize,
    group: usize,
    options: SelectorOptions,
    /// Indexed positions; when there are none, everything is attended.
    region: std::ops::Range<usize>,
    ctkvr: Ctkvr,
    queries: Vec<f32>,
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
        let num_tokens = input.keys.len() / d;
        let num_centroids = input.queries.len() / (group * d);
        check_len("keys", input.keys.len(), num_tokens * d)?;
        check_len("values", input.values.len(), num_tokens * d)?;
        check_len("queries", input.queries.len(), num_centroids.max(1) * group * d)?;
        for (what, data) in [("keys", input.keys), ("values", input.values), ("queries", input.queries)] {
            check_finite(what, data)?;
        }
        let mut kv = HeadKv::new(d);
        kv.reserve(0, num_tokens)?;
        for position in 0..num_tokens {
            // SAFETY: reserved above; nobody else has the pages.
            unsafe {
                let (key, value) = kv.slot(position);
                (kernels.narrow)(input.keys[position * d..].as_ptr(), d, key);
                (kernels.narrow)(input.values[position * d..].as_ptr(), d, value);
            }
        }
        let start = options.num_sink_tokens.min(num_tokens);
        let region = start..num_tokens.saturating_sub(options.recent_window).max(start);
        let build = BlockInput {
            keys: kv.keys(region.start, region.len()),
            values: kv.values(region.start, region.len()),
            start: region.start,
            made_at: num_tokens,
            grown_at: num_tokens,
            queries: input.queries,
            group,
            list_len: options.posting_list_len(region.len()),
            per_list: options.centroids_per_list,
            tail: options.tail,
        };
        let always = [kv.keys(0, region.start), kv.keys(region.end, num_tokens - region.end)];
        let index = CentroidIndex::build(kernels, &build, MeterInput { always, num_probes: options.num_probes }, cancel)?;
        let ctkvr = Ctkvr::new(index, options);
        let options = options.clone();
        Ok(Self { kernels, kv, num_tokens, head_dim: d, group, options, region, ctkvr, queries: input.queries.to_vec() })
    }

    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    pub(crate) fn group(&self) -> usize {
        self.group
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    pub fn num_centroids(&self) -> usize {
        self.queries.len() / (self.group * self.head_dim)
    }

    /// How much decode queries will miss that the tail cannot stand for, as the build measured it: 0 to 1. See `volatility.rs`.
    pub fn volatility(&self) -> f32 {
        self.ctkvr.index.volatility()
    }

    /// Bytes of the index, keys and values apart.
    pub fn bytes(&self) -> usize {
        self.ctkvr.bytes()
    }

    /// Positions of centroid c's list, ascending.
    pub fn list(&self, c: usize) -> Result<Vec<u32>> {
        self.check_centroid(c)?;
        Ok(self.ctkvr.index.list(c))
    }

    /// Centroid c's tail at its own query: log-sum-exp `[group]`, mean value and key `[group, head_dim]`. Empty: -infinity, zeros.
    pub fn tail(&self, c: usize) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        self.check_centroid(c)?;
        let (d, n) = (self.head_dim, self.group * self.head_dim);
        let Some((mut lse, value, key)) = self.ctkvr.index.stored_tail(c) else {
            return Ok((vec![f32::NEG_INFINITY; self.group], vec![0.0; n], vec![0.0; n]));
        };
        let per_list = self.options.centroids_per_list;
        let middle = CentroidBlock::middle(c / per_list, per_list, self.num_centroids());
        let query = self.scaled(&self.queries[middle * n..(middle + 1) * n]);
        for (h, lse) in lse.iter_mut().enumerate() {
            *lse += query[h * d..(h + 1) * d].iter().zip(&key[h * d..]).map(|(a, b)| a * b).sum::<f32>();
        }
        Ok((lse, value, key))
    }

    /// The nearest centroids, best first, with their similarities. `query` f32 `[group, head_dim]`.
    pub fn probe(&self, query: &[f32]) -> Result<Vec<(f32, u32)>> {
        self.check_query(query)?;
        let mut out = Vec::new();
        self.ctkvr.index.probe(self.kernels, query, self.options.num_probes, &mut ProbeScratch::default(), &mut out);
        Ok(out)
    }

    /// Ascending union of the lists of `centroids`.
    pub fn candidates(&self, centroids: &[u32]) -> Result<Vec<u32>> {
        centroids.iter().try_for_each(|&c| self.check_centroid(c as usize))?;
        let probes: Vec<(f32, u32)> = centroids.iter().map(|&c| (0.0, c)).collect();
        let mut out = Vec::new();
        self.ctkvr.index.union(self.kernels, &probes, &mut ProbeScratch::default(), &mut out);
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
    pub(crate) fn finish(&self, mut head: HeadDecode) -> HeadAttention {
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
        let layout = Layout {
            len: self.num_tokens,
            start: self.region.start,
            end: self.region.end,
            max_selected: self.options.max_selected,
            top_p: self.options.top_p,
        };
        self.decode_with(query, layout, (!self.region.is_empty()).then_some(&self.ctkvr as &dyn HeadSelector))
    }

    /// A decode step up to the selection, by another selector.
    pub(crate) fn decode_with(&self, query: &[f32], layout: Layout, selector: Option<&dyn HeadSelector>) -> Result<HeadDecode> {
        self.check_query(query)?;
        let mut head = HeadDecode::default();
        head.propose(self.kernels, query, self.group, layout, selector, false);
        // SAFETY: the only part, on one thread.
        unsafe { head.score(self.kernels, &self.kv, Part::WHOLE) };
        head.select(self.kernels, 1, selector);
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

    fn check_centroid(&self, c: usize) -> Result<()> {
        if c < self.num_centroids() {
            return Ok(());
        }
        let expected = format!("below {}", self.num_centroids());
        Err(Error::InvalidOption { option: "centroid", expected, actual: c.to_string() })
    }
}

pub(crate) fn check_len(what: &'static str, actual: usize, expected: usize) -> Result<()> {
    if actual == expected { Ok(()) } else { Err(Error::ShapeMismatch { op: "headIndex", what, expected, actual }) }
}

pub(crate) fn check_finite(what: &'static str, data: &[f32]) -> Result<()> {
    match data.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { op: "headIndex", what, index }),
    }
}
