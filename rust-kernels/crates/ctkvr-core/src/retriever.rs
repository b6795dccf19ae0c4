//! The seam for retrieval methods. A [`Retriever`] is a method with its own options; a [`HeadRetriever`] is what it keeps of one (layer,
//! KV head): which positions of the region between sinks and window a decode step scores, and which it reads. CTkvr is one (`index/`), the
//! crate ctkvr-baselines has others, and `examples/own_retriever.rs` shows one in a single file.
//!
//! Who owns what: keys and values belong to the store and are lent as [`Rows`] for the time of a call; a method keeps no pointer to them.
//! A head's state never changes once it is made: growing and cutting give another one, so that forks share states. What a search needs
//! besides is its [`Scratch`], one for each slot of a step, which no two threads use at once.
//!
//! All methods of the traits may be called by several threads at once. Positions count from the first token of the sequence; queries are
//! f32 `[group, head_dim]` after rotary embedding, where `group` is the number of query heads that share the KV head.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ctkvr_kernels::{Kernels, Rows};

use crate::error::Result;
use crate::options::BuildOptions;

/// A retrieval method with its options.
pub trait Retriever: Any + Debug + Send + Sync {
    /// What the method is called in options and reports: camel case, as JavaScript has it.
    fn name(&self) -> &'static str;

    /// Refuses options that the method cannot work with. Called before anything else.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether every step reads everything: then nothing is built, and no head is ever searched.
    fn is_dense(&self) -> bool {
        false
    }

    /// Whether heads grow with the text ([`HeadRetriever::extended`]). Those of a method that does not are built anew, and until then the
    /// tokens since are read always.
    fn grows(&self) -> bool {
        false
    }

    /// Share of the heads' steps that may be dense because a search said [`Proposal::is_outlier`]; such queries are handed to
    /// [`HeadRetriever::extended`]. 0 to 1.
    fn repair_share(&self) -> f64 {
        0.0
    }

    /// Builds one head's state on the calling thread. Depends on `input` alone. Stops with [`crate::Error::Cancelled`] soon after
    /// `input.cancel` is set.
    fn build(&self, input: &BuildInput) -> Result<Arc<dyn HeadRetriever>>;

    /// Called once when all heads of a sequence are built for the first time, `[num_layers, num_kv_heads]`: for what is told by comparing
    /// them. It may put other states in their places.
    fn settle(&self, _heads: &mut [HeadState]) {}

    /// Searches some heads of one layer, of any sequences that have this method. They are independent of each other: a device does all of
    /// them in one launch, the CPU passes one at a time. Never fails, allocates nothing once scratch and proposals have grown, and
    /// changes nothing but those.
    fn search(&self, heads: &mut [HeadSearch]) {
        for HeadSearch { head, query, scratch, out } in heads {
            head.search(query, scratch, out);
        }
    }

    /// Whether a state that `other` built serves this method as it is: then a sequence keeps its states when it changes from `other` to
    /// this. `other` may be of another type; see [`same_options`].
    fn same_build(&self, other: &dyn Retriever) -> bool;

    /// An upper bound of [`HeadRetriever::bytes`] for a region of this size.
    fn bytes_needed(&self, size: &HeadSize) -> usize;

    /// A state as [`HeadRetriever::encode`] wrote it: its searches give the same bits, on the same kernels, as those of the state that was
    /// encoded. `input` is that of its build, or, of a state that grew, of when it last grew; `input.queries` is empty. A method whose build
    /// depends on keys and values alone may build anew and encode nothing. Bytes may be damaged or made up: what does not fit is refused
    /// with [`crate::Error::BadIndexImage`], and nothing is allocated for what is not there.
    fn decode(&self, bytes: &[u8], input: &BuildInput) -> Result<Arc<dyn HeadRetriever>>;
}

/// Whether `other` is of this type with equal options: [`Retriever::same_build`] of most methods.
pub fn same_options<T: Retriever + PartialEq>(method: &T, other: &dyn Retriever) -> bool {
    let other: &dyn Any = other;
    other.downcast_ref::<T>() == Some(method)
}

/// What a method keeps of one (layer, KV head) of one sequence. Immutable.
pub trait HeadRetriever: Any + Send + Sync {
    /// Chooses what one decode step scores and reads; see [`Retriever::search`]. `out` comes cleared ([`Proposal::clear`]); `scratch` is
    /// whatever the last search in this slot left.
    fn search(&self, query: &HeadQuery, scratch: &mut Scratch, out: &mut Proposal);

    /// For a choice drawn at random: turns the exact scores of [`Proposal::positions`], f32 `[group, positions]`, into those of an estimate
    /// of the whole region, [`UNDRAWN`] where a head did not draw the position. `scratch` is as the search left it. False: the scores
    /// stand. Called when every candidate is read.
    fn reweigh(&self, _query: &HeadQuery, _proposal: &Proposal, _scratch: &mut Scratch, _scores: &mut [f32]) -> bool {
        false
    }

    /// Where [`Proposal::tail`] is [`ProposedTail::Scored`]: writes the mean value f32 `[group, head_dim]` of what was scored and not
    /// selected, and returns the bytes of index read. `weights` f32 `[group, region]`, not normalised, 0 for what was selected. `scratch` is
    /// not the search's: this runs beside other threads' attention.
    fn mean_of_unselected(&self, _kernels: &Kernels, _weights: &[f32], _scratch: &mut Scratch, _value: &mut Vec<f32>) -> usize {
        0
    }

    /// Whether each search proposes a large share of the region, so that a step has far more to do here than in others.
    fn is_long(&self) -> bool {
        false
    }

    /// This state over a longer region (or the same), with the queries since it was made; itself unchanged. `None` when it does not grow.
    /// `input.region` begins where the state's does and ends no earlier.
    fn extended(&self, _input: &BuildInput) -> Result<Option<Arc<dyn HeadRetriever>>> {
        Ok(None)
    }

    /// The state as it was when only `len` tokens were stored, exactly as if none had been appended since; `None` when there was none, or
    /// it is not known any more. Asked only of a state that has changed since.
    fn truncated(&self, _len: usize) -> Option<HeadState> {
        None
    }

    /// Appends all that [`Retriever::decode`] needs to `out`, without keys, values and options.
    fn encode(&self, out: &mut Vec<u8>);

    /// Bytes held (what forks or heads share is counted in full).
    fn bytes(&self) -> usize;
}

/// One head's state and what it covers.
#[derive(Clone)]
pub struct HeadState {
    pub head: Arc<dyn HeadRetriever>,
    /// Where the positions that it chooses from end; later ones are read always.
    pub end: usize,
    /// Tokens stored when it last changed: a sequence cut shorter than that has an earlier state.
    pub made_at: usize,
    /// Tokens whose queries have had their turn in a build.
    pub grown_at: usize,
}

impl HeadState {
    /// As it was when only `len` tokens were stored; `None` when it was not there yet, or is not known any more.
    pub fn truncated(&self, len: usize) -> Option<Self> {
        if self.made_at > len {
            return self.head.truncated(len);
        }
        Some(Self { grown_at: self.grown_at.min(len), ..self.clone() })
    }
}

/// What a head's state is built or grown from.
pub struct BuildInput<'a> {
    pub kernels: &'a Kernels,
    pub layer: usize,
    /// Keys and values of every stored position, from the first one on: as many as there are tokens.
    pub keys: Rows<'a>,
    pub values: Rows<'a>,
    /// Positions to choose from: between sinks and window.
    pub region: Range<usize>,
    /// f32 `[any, group, head_dim]`, after rotary embedding, oldest first: the last ones stored, at most [`BuildOptions::query_count`]; of a
    /// growth, those since the last one.
    pub queries: &'a [f32],
    pub group: usize,
    /// Tokens whose queries have had their turn once this build is done.
    pub grown_at: usize,
    pub options: BuildOptions,
    pub cancel: &'a AtomicBool,
}

impl<'a> BuildInput<'a> {
    pub fn head_dim(&self) -> usize {
        self.keys.head_dim()
    }

    /// Tokens stored.
    pub fn num_tokens(&self) -> usize {
        self.keys.len()
    }

    /// Keys of the region, in order.
    pub fn region_keys(&self) -> Rows<'a> {
        self.keys.part(self.region.start, self.region.len())
    }

    /// Values of the region, in order.
    pub fn region_values(&self) -> Rows<'a> {
        self.values.part(self.region.start, self.region.len())
    }
}

/// A region's size, for [`Retriever::bytes_needed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSize {
    /// Positions of the region.
    pub num_keys: usize,
    pub head_dim: usize,
    pub group: usize,
    pub options: BuildOptions,
}

/// One head's query group at one decode step.
#[derive(Clone, Copy)]
pub struct HeadQuery<'a> {
    /// f32 `[group, head_dim]`, after rotary embedding.
    pub query: &'a [f32],
    /// The same times 1/sqrt(head_dim).
    pub scaled: &'a [f32],
    pub group: usize,
    /// Positions to be read beside sinks and window; 0 = all.
    pub max_selected: usize,
    pub kernels: &'a Kernels,
}

impl HeadQuery<'_> {
    pub fn head_dim(&self) -> usize {
        self.query.len() / self.group
    }
}

/// One head's part of a layer's search.
pub struct HeadSearch<'a> {
    pub head: &'a dyn HeadRetriever,
    pub query: HeadQuery<'a>,
    pub scratch: &'a mut Scratch,
    /// Cleared.
    pub out: &'a mut Proposal,
}

/// Reused memory of a method's searches: whatever type it asks for.
pub struct Scratch(Box<dyn Any + Send>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new(()))
    }
}

impl Scratch {
    /// The slot's `T`: a new one when the last search here had another type, which is once for a slot as a rule.
    pub fn get<T: Any + Default + Send>(&mut self) -> &mut T {
        if !self.0.is::<T>() {
            self.0 = Box::new(T::default());
        }
        match self.0.downcast_mut() {
            Some(scratch) => scratch,
            None => unreachable!("made above"),
        }
    }
}

/// Which positions of the region get exact scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Candidates {
    #[default]
    None,
    /// All of the region.
    Region,
    /// [`Proposal::positions`].
    Listed,
    /// All of the region, and all of them are read.
    All,
}

/// What stands for the positions of the region that are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProposedTail {
    /// Nothing: attention is over what is read.
    #[default]
    None,
    /// [`Proposal::tail_lse`] and [`Proposal::tail_value`] stand for what is no candidate.
    Given,
    /// Every key of the region is scored, so that the weight is known; [`HeadRetriever::mean_of_unselected`] gives the value.
    Scored,
}

/// A search's answer for one head; its memory is reused from token to token.
#[derive(Debug, Default)]
pub struct Proposal {
    pub candidates: Candidates,
    /// Ascending, without repeats, inside the region; for [`Candidates::Listed`].
    pub positions: Vec<u32>,
    /// Whether every candidate is read: the method has kept to its own budget.
    pub reads_all: bool,
    /// Centroids, pages, buckets or clusters looked into: for the report.
    pub num_probed: usize,
    /// Bytes of the state read: for the report.
    pub bytes_read: usize,
    pub tail: ProposedTail,
    /// log-sum-exp of the tail's scores, f32 `[group]`, -infinity where it is empty.
    pub tail_lse: Vec<f32>,
    /// Mean value of the tail, f32 `[group, head_dim]`.
    pub tail_value: Vec<f32>,
    /// Whether the query is unlike everything that was indexed: a dense step would answer it better, and could be learnt from.
    pub is_outlier: bool,
    /// Time spent joining lists: for the report.
    pub union_time: Duration,
}

impl Proposal {
    /// Proposes nothing.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.tail_lse.clear();
        self.tail_value.clear();
        *self = Self {
            positions: std::mem::take(&mut self.positions),
            tail_lse: std::mem::take(&mut self.tail_lse),
            tail_value: std::mem::take(&mut self.tail_value),
            ..Self::default()
        };
    }
}

/// Score of a position that counts for another head of the group only: its weight is 0, and it stays a number where nothing was drawn.
pub const UNDRAWN: f32 = -1e30;
