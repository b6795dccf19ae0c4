//! The memory that a step computes in, kept from step to step.

use ctkvr_kernels::{STRIP_ROWS, Tile, activation_tiles};
use ctkvr_model::{Error, ModelSpec, Result, available_memory_bytes};

use crate::linear::{Joined, LinearScratch};
use crate::plan::Plan;

/// Most encodings that the layers of one product take.
pub(crate) const MAX_ENCODINGS: usize = 3;

/// All f32 `[rows, …]`, grown to the largest step so far.
#[derive(Default)]
pub(crate) struct StepBuffers {
    pub hidden: Vec<f32>,
    pub queries: Vec<f32>,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
    /// What attention gave.
    pub attended: Vec<f32>,
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
    /// What a block gave, where it waits to be added to `hidden`.
    pub block_out: Vec<f32>,
    /// Cosines and sines of each row's position, of each rotary table.
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// Rounded activations of the product that runs, one for each encoding: words, for their alignment.
    pub rounded: [Vec<u64>; MAX_ENCODINGS],
    /// Those of prompts, where they are multiplied on tiles.
    pub tiles: Vec<Tile>,
}

/// One thread's.
#[derive(Default)]
pub(crate) struct StepScratch {
    /// A row before it is rounded.
    pub row: Vec<f32>,
    pub linear: LinearScratch,
}

impl StepBuffers {
    /// Makes room for a step over so many rows.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn reserve(&mut self, spec: &ModelSpec, plan: &Plan, rows: usize) -> Result<()> {
        let (queries, keys) = (spec.num_q_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim);
        let (mut rounded, mut tiles) = ([0; MAX_ENCODINGS], 0);
        for joined in plan.products() {
            tiles = tiles.max(joined.tiles.map_or(0, |_| activation_tiles(rows, joined.k)));
            for (most, encoding) in rounded.iter_mut().zip(&joined.encodings) {
                *most = (*most).max(encoding.row_bytes(joined.k).div_ceil(size_of::<u64>()));
            }
        }
        let wanted = [
            (&mut self.hidden, rows * spec.embedding_len),
            (&mut self.queries, rows * queries),
            (&mut self.keys, rows * keys),
            (&mut self.values, rows * keys),
            (&mut self.attended, rows * queries),
            (&mut self.gate, rows * spec.feed_forward_len),
            (&mut self.up, rows * spec.feed_forward_len),
            (&mut self.block_out, if plan.has_residuals() { rows * spec.embedding_len } else { 0 }),
            (&mut self.cos, rows * plan.rotary.len() * plan.num_pairs()),
            (&mut self.sin, rows * plan.rotary.len() * plan.num_pairs()),
        ];
        let bytes: usize = wanted.iter().map(|(_, len)| size_of::<f32>() * len).sum();
        let grown = wanted.into_iter().all(|(buffer, len)| grow(buffer, len, 0.0))
            && grow(&mut self.tiles, tiles, Tile::ZERO)
            && self.rounded.iter_mut().zip(rounded).all(|(buffer, words)| grow(buffer, rows * words, 0));
        if grown {
            return Ok(());
        }
        Err(Error::OutOfMemory {
            what: format!("a step over {rows} rows"),
            needed: bytes as u64,
            available: available_memory_bytes(),
        })
    }
}

impl StepScratch {
    pub fn new(plan: &Plan) -> Self {
        let most = |of: &dyn Fn(&Joined) -> usize| plan.products().map(of).max().unwrap_or(0);
        let sums = vec![0.0; STRIP_ROWS * most(&Joined::rows_at_once)];
        Self { row: vec![0.0; most(&|joined| joined.k)], linear: LinearScratch { sums, ..LinearScratch::default() } }
    }
}

/// Whether there is room for `len` values.
fn grow<T: Clone>(buffer: &mut Vec<T>, len: usize, value: T) -> bool {
    if buffer.len() < len {
        if buffer.try_reserve_exact(len - buffer.len()).is_err() {
            return false;
        }
        buffer.resize(len, value);
    }
    true
}
