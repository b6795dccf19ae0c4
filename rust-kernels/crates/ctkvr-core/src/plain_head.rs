//! One KV head's keys and values from plain arrays, and decode steps over them by any retrieval method: for trying methods out, and for
//! their tests.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_kernels::{Kernels, KvFormat};

use crate::attention::alone::{HeadAttention, attend_alone, select_alone};
use crate::error::{Error, Result};
use crate::kv::block_table::BlockTable;
use crate::kv::host_pool::HostKvPool;
use crate::kv::pool::PageShape;
use crate::options::{BuildOptions, StepOptions};
use crate::retriever::{BuildInput, HeadSearch, HeadState, Retriever};
use crate::search::{HeadStep, Layout};

/// Plain arrays of one KV head.
pub struct PlainRows<'a> {
    /// f32 row-major `[num_tokens, head_dim]`, after rotary embedding; stored as f16.
    pub keys: &'a [f32],
    /// f32 `[num_tokens, head_dim]`; stored as f16.
    pub values: &'a [f32],
    pub head_dim: usize,
    /// Query heads that share the KV head.
    pub group: usize,
    /// Name of the kernels; empty = the fastest.
    pub isa: &'a str,
}

/// One KV head's stored keys and values.
pub struct PlainHead {
    kernels: &'static Kernels,
    table: BlockTable,
    num_tokens: usize,
    group: usize,
}

/// What a build is asked for.
#[derive(Clone, Copy)]
pub struct PlainBuild<'a> {
    pub step: StepOptions,
    pub options: BuildOptions,
    pub layer: usize,
    /// Tokens that are taken to be stored: the first ones.
    pub num_tokens: usize,
    /// f32 `[any, group, head_dim]`, after rotary embedding, oldest first.
    pub queries: &'a [f32],
    pub cancel: &'a AtomicBool,
}

impl PlainHead {
    /// Stores the rows. Fails on sizes that do not fit each other, kernels that do not fit the head dimension.
    pub fn new(rows: &PlainRows) -> Result<Self> {
        let PlainRows { keys, values, head_dim: d, group, isa } = *rows;
        let kernels = Kernels::named(isa, d)?;
        let num_tokens = keys.len() / d;
        for (what, actual) in [("keys", keys.len()), ("values", values.len())] {
            if actual != num_tokens * d {
                return Err(Error::ShapeMismatch { op: "plainHead", what, expected: num_tokens * d, actual });
            }
        }
        let pool = HostKvPool::new(PageShape { num_heads: 1, head_dim: d }, None);
        let mut table = BlockTable::new(Arc::new(pool), KvFormat::F16);
        table.reserve(0, num_tokens)?;
        let kv = table.head(0);
        for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
            // SAFETY: reserved above; nobody else has the pages; a row holds d values.
            unsafe { kv.store(kernels, i, key.as_ptr(), value.as_ptr()) };
        }
        Ok(Self { kernels, table, num_tokens, group })
    }

    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Tokens stored.
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// What a method's build, growth or decoding takes: the region lies between sinks and window. Fails on more tokens than are stored.
    pub fn build_input<'a>(&'a self, build: &PlainBuild<'a>) -> Result<BuildInput<'a>> {
        let PlainBuild { step, options, layer, num_tokens: n, queries, cancel } = *build;
        self.check_len(n)?;
        let start = step.num_sink_tokens.min(n);
        Ok(BuildInput {
            kernels: self.kernels,
            layer,
            keys: self.table.head(0).keys(0, n),
            values: self.table.head(0).values(0, n),
            region: start..n.saturating_sub(step.recent_window).max(start),
            queries,
            group: self.group,
            grown_at: n,
            options,
            cancel,
        })
    }

    /// Builds a method's state of this head. Fails as the method does.
    pub fn build(&self, method: &dyn Retriever, build: &PlainBuild) -> Result<HeadState> {
        let input = self.build_input(build)?;
        let head = method.build(&input)?;
        Ok(HeadState { head, end: input.region.end, made_at: build.num_tokens, grown_at: build.num_tokens })
    }

    /// Attention of a query, f32 `[group, head_dim]`, over the first `num_tokens` tokens, with a method's state of this head; `None` reads
    /// everything. Fails on a query of another size, more tokens than are stored, or none.
    pub fn attend(
        &self,
        query: &[f32],
        num_tokens: usize,
        step: &StepOptions,
        state: Option<(&dyn Retriever, &HeadState)>,
    ) -> Result<HeadAttention> {
        self.check_len(num_tokens)?;
        let expected = self.group * self.table.head(0).keys(0, 0).head_dim();
        if query.len() != expected {
            return Err(Error::ShapeMismatch { op: "plainHead", what: "query", expected, actual: query.len() });
        }
        let StepOptions { num_sink_tokens, max_selected, top_p, .. } = *step;
        let start = num_sink_tokens.min(num_tokens);
        let end = state.map_or(start, |(_, state)| state.end);
        let layout = Layout { len: num_tokens, start, end, max_selected, top_p };
        let asked = HeadStep { query, group: self.group, layout, may_repair: false };
        let state = state.filter(|_| start < end);
        let head = state.map(|(_, state)| &*state.head);
        let decode = select_alone(self.kernels, &self.table.head(0), &asked, head, |query, scratch, out| {
            if let Some((method, state)) = state {
                method.search(&mut [HeadSearch { head: &*state.head, query, scratch, out }]);
            }
        });
        Ok(attend_alone(self.kernels, &self.table.head(0), decode))
    }

    fn check_len(&self, num_tokens: usize) -> Result<()> {
        if (1..=self.num_tokens).contains(&num_tokens) {
            return Ok(());
        }
        let expected = format!("from 1 to the {} stored", self.num_tokens);
        Err(Error::InvalidOption { option: "numTokens", expected, actual: num_tokens.to_string() })
    }
}
