//! A step as a job for a team: its phases, and what their units are.

use std::cell::UnsafeCell;
use std::ops::Range;

use ctkvr_cpu::{ATTENTION_PHASES, Ahead, AttentionBackend, Job, LayerIo, Units};
use ctkvr_kernels::{BLOCK, TILE_ROWS, Tile};

use crate::linear::{Joined, Rows, Target};
use crate::plan::{Layer, Plan};
use crate::spec::ModelSpec;
use crate::step_buffers::{MAX_ENCODINGS, StepBuffers, StepScratch};
use crate::step_plan::Chunk;

/// Values that whoever opens a phase prepares alone: to share them takes longer.
const VALUES_ALONE: usize = 8 << 10;
/// Rows that a thread prepares at once.
const ROWS_AT_ONCE: usize = 4;
/// Rows of a product that is bound by its weights: those of the next one are asked for ahead.
const FEW_ROWS: usize = 8;
const PHASES_PER_LAYER: usize = 8 + ATTENTION_PHASES;

/// A product of activations and weights.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Product {
    Qkv(usize),
    Output(usize),
    GateAndUp(usize),
    Down(usize),
    Logits,
}

/// What a phase does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    /// Rows of tokens are looked up.
    Begin,
    /// Activations are normed or gated, and rounded.
    Prepare(Product),
    Multiply(Product),
    Attend(usize, usize),
}

/// What comes before a product.
#[derive(Clone, Copy)]
enum Before {
    Nothing(*const f32),
    Norm(*const f32, *const f32),
    /// silu(gate) * up.
    Gate(*const f32, *const f32),
}

/// Where the buffers are; the products' rows.
struct Pointers {
    hidden: *mut f32,
    queries: *mut f32,
    keys: *mut f32,
    values: *mut f32,
    attended: *mut f32,
    gate: *mut f32,
    up: *mut f32,
    logits: *mut f32,
    cos: *mut f32,
    sin: *mut f32,
    rounded: [*mut u8; MAX_ENCODINGS],
    tiles: *mut Tile,
}

pub(crate) struct StepJob<'a> {
    plan: &'a Plan,
    spec: &'a ModelSpec,
    backend: &'a dyn AttentionBackend,
    chunk: &'a Chunk,
    at: Pointers,
    /// One for each thread, then one for who opens a phase.
    scratch: &'a [UnsafeCell<StepScratch>],
    /// Rows that go on, those of decodes and those of prompts behind them: after the last attention only those whose logits are wanted.
    /// Written by who opens a phase.
    num_rows: UnsafeCell<[usize; 2]>,
}

// SAFETY: buffers live as long as the job; units write parts of their own, and read what earlier phases wrote; what is opened is opened by one
// thread while no unit is worked on.
unsafe impl Sync for StepJob<'_> {}

impl<'a> StepJob<'a> {
    /// `buffers` have room for the chunk; `scratch` is one more than there are threads.
    pub fn new(
        plan: &'a Plan,
        spec: &'a ModelSpec,
        backend: &'a dyn AttentionBackend,
        chunk: &'a Chunk,
        buffers: &'a mut StepBuffers,
        scratch: &'a mut [UnsafeCell<StepScratch>],
    ) -> Self {
        let at = Pointers {
            hidden: buffers.hidden.as_mut_ptr(),
            queries: buffers.queries.as_mut_ptr(),
            keys: buffers.keys.as_mut_ptr(),
            values: buffers.values.as_mut_ptr(),
            attended: buffers.attended.as_mut_ptr(),
            gate: buffers.gate.as_mut_ptr(),
            up: buffers.up.as_mut_ptr(),
            logits: buffers.logits.as_mut_ptr(),
            cos: buffers.cos.as_mut_ptr(),
            sin: buffers.sin.as_mut_ptr(),
            rounded: buffers.rounded.each_mut().map(|words| words.as_mut_ptr().cast()),
            tiles: buffers.tiles.as_mut_ptr(),
        };
        let num_rows = [chunk.num_decodes, chunk.tokens.len() - chunk.num_decodes];
        Self { plan, spec, backend, chunk, at, scratch, num_rows: UnsafeCell::new(num_rows) }
    }

    /// `None` behind the end.
    fn stage(&self, phase: usize) -> Option<Stage> {
        let Some(index) = phase.checked_sub(1) else { return Some(Stage::Begin) };
        let (layer, within) = (index / PHASES_PER_LAYER, index % PHASES_PER_LAYER);
        if layer == self.plan.layers.len() {
            return match within {
                0 => Some(Stage::Prepare(Product::Logits)),
                1 => Some(Stage::Multiply(Product::Logits)),
                _ => None,
            };
        }
        // Keys and values are stored by the attention; without outputs nothing else of the last layer is needed.
        if layer + 1 == self.plan.layers.len() && self.chunk.output_rows.is_empty() && within >= 2 + ATTENTION_PHASES {
            return None;
        }
        Some(match within {
            0 => Stage::Prepare(Product::Qkv(layer)),
            1 => Stage::Multiply(Product::Qkv(layer)),
            _ => match within.checked_sub(2 + ATTENTION_PHASES) {
                None => Stage::Attend(layer, within - 2),
                Some(behind) => {
                    let product = [Product::Output, Product::GateAndUp, Product::Down][behind / 2](layer);
                    if behind % 2 == 0 { Stage::Prepare(product) } else { Stage::Multiply(product) }
                }
            },
        })
    }

    /// Rows of decodes, and of prompts.
    fn num_rows_each(&self) -> [usize; 2] {
        // SAFETY: see `Sync`.
        unsafe { *self.num_rows.get() }
    }

    fn num_rows(&self) -> usize {
        self.num_rows_each().iter().sum()
    }

    fn joined(&self, product: Product) -> &Joined {
        match product {
            Product::Qkv(layer) => &self.plan.layers[layer].qkv,
            Product::Output(layer) => &self.plan.layers[layer].output,
            Product::GateAndUp(layer) => &self.plan.layers[layer].gate_and_up,
            Product::Down(layer) => &self.plan.layers[layer].down,
            Product::Logits => &self.plan.logits,
        }
    }

    fn before(&self, product: Product) -> Before {
        let (at, layer) = (&self.at, |layer: usize| &self.plan.layers[layer]);
        match product {
            Product::Qkv(i) => Before::Norm(at.hidden, layer(i).attention_norm),
            Product::Output(_) => Before::Nothing(at.attended),
            Product::GateAndUp(i) => Before::Norm(at.hidden, layer(i).feed_forward_norm),
            Product::Down(_) => Before::Gate(at.gate, at.up),
            Product::Logits => Before::Norm(at.hidden, self.plan.output_norm),
        }
    }

    /// Where the results of a product's layers go; those beyond are not used.
    fn targets(&self, product: Product) -> [Target; MAX_ENCODINGS] {
        let (at, new) = (&self.at, |c: *mut f32| Target { c, is_residual: false });
        let added = [Target { c: at.hidden, is_residual: true }; MAX_ENCODINGS];
        match product {
            Product::Qkv(_) => [new(at.queries), new(at.keys), new(at.values)],
            Product::GateAndUp(_) => [new(at.gate), new(at.up), new(at.up)],
            Product::Output(_) | Product::Down(_) => added,
            Product::Logits => [new(at.logits); MAX_ENCODINGS],
        }
    }

    /// The product whose weights are read next.
    fn next(&self, product: Product) -> Option<Product> {
        match product {
            Product::Qkv(layer) => Some(Product::Output(layer)),
            Product::Output(layer) => Some(Product::GateAndUp(layer)),
            Product::GateAndUp(layer) => Some(Product::Down(layer)),
            Product::Down(layer) if layer + 1 < self.plan.layers.len() => Some(Product::Qkv(layer + 1)),
            Product::Down(_) => Some(Product::Logits),
            Product::Logits => None,
        }
    }

    /// Looks up a row's token and the turns of its position.
    fn begin(&self, row: usize) {
        let (width, half) = (self.spec.embedding_len, self.plan.turns.len());
        // SAFETY: the engine checked the token; the buffers hold the row.
        unsafe {
            self.plan.embedding.write(self.chunk.tokens[row], self.at.hidden.add(row * width));
            let turns = |of: *mut f32| std::slice::from_raw_parts_mut(of.add(row * half), half);
            self.plan.turns.write(self.chunk.positions[row], turns(self.at.cos), turns(self.at.sin));
        }
    }

    /// Rounds a row of a product's activations.
    fn prepare(&self, product: Product, row: usize, scratch: &mut StepScratch) {
        let (joined, kernels, prepared) = (self.joined(product), self.plan.kernels, scratch.row.as_mut_ptr());
        let k = joined.k;
        // SAFETY: the buffers hold the row, which is this unit's; the scratch holds k values.
        unsafe {
            let x = match self.before(product) {
                Before::Nothing(input) => input.add(row * k),
                Before::Norm(input, weight) => {
                    (kernels.rms_norm)(input.add(row * k), weight, k, self.spec.rms_epsilon, prepared);
                    prepared
                }
                Before::Gate(gate, up) => {
                    (kernels.gate)(gate.add(row * k), up.add(row * k), k, prepared);
                    prepared
                }
            };
            if let Some((tiles, row)) = joined.tiles.zip(row.checked_sub(self.num_rows_each()[0])) {
                let of_row = self.at.tiles.add(row / TILE_ROWS * (k / BLOCK));
                return (tiles.narrow_row)(x, 0, k / BLOCK, row % TILE_ROWS, of_row);
            }
            for (encoding, out) in joined.encodings.iter().zip(self.at.rounded) {
                encoding.round(x, k, out.add(row * encoding.row_bytes(k)));
            }
        }
    }

    /// Norms and turns the queries and the key of a row and KV head.
    fn finish_heads(&self, layer: &Layer, row: usize, kv_head: usize) {
        let ModelSpec { num_q_heads, num_kv_heads, head_dim: d, rms_epsilon, .. } = *self.spec;
        let (kernels, half) = (self.plan.kernels, self.plan.turns.len());
        let group = num_q_heads / num_kv_heads;
        // SAFETY: the buffers hold the row; these heads are this unit's.
        unsafe {
            let first = self.at.queries.add((row * num_q_heads + kv_head * group) * d);
            let key = self.at.keys.add((row * num_kv_heads + kv_head) * d);
            let (cos, sin) = (self.at.cos.add(row * half), self.at.sin.add(row * half));
            let finish = |head: *mut f32, which: usize| {
                if let Some(norms) = layer.head_norms {
                    (kernels.rms_norm)(head, norms[which], d, rms_epsilon, head);
                }
                (self.plan.rotate)(head, cos, sin, half);
            };
            (0..group).for_each(|head| finish(first.add(head * d), 0));
            finish(key, 1);
        }
    }

    /// Calls `with` with a layer's tensors.
    fn with_io<T>(&self, layer: usize, with: impl FnOnce(&LayerIo) -> T) -> T {
        let prepare = |row: usize, kv_head: usize| self.finish_heads(&self.plan.layers[layer], row, kv_head);
        with(&LayerIo {
            queries: self.at.queries,
            keys: self.at.keys,
            values: self.at.values,
            out: self.at.attended,
            num_rows: self.chunk.tokens.len(),
            prepare: &prepare,
        })
    }

    /// Leaves only the rows whose logits are wanted.
    fn keep_output_rows(&self) {
        let (width, attended) = (self.spec.embedding_len, self.spec.num_q_heads * self.spec.head_dim);
        for (to, from) in self.chunk.output_rows.iter().enumerate() {
            let from = *from as usize;
            // SAFETY: who opens a phase is alone with the buffers; rows ascend, so that none is overwritten before it is read.
            unsafe {
                std::ptr::copy(self.at.hidden.add(from * width), self.at.hidden.add(to * width), width);
                std::ptr::copy(self.at.attended.add(from * attended), self.at.attended.add(to * attended), attended);
            }
        }
        // SAFETY: as above.
        unsafe {
            *self.num_rows.get() = [self.chunk.num_decode_outputs(), self.chunk.output_rows.len() - self.chunk.num_decode_outputs()]
        };
    }

    /// Units of a phase that works on rows, of `values` values each; few are worked on at once.
    fn rows(&self, values: usize, work: impl Fn(usize, &mut StepScratch)) -> Units {
        let num_rows = self.num_rows();
        if num_rows > 1 && num_rows * values > VALUES_ALONE {
            return Units::of(num_rows, ROWS_AT_ONCE);
        }
        // SAFETY: who opens a phase has the last one.
        let scratch = unsafe { &mut *self.scratch[self.scratch.len() - 1].get() };
        (0..num_rows).for_each(|row| work(row, scratch));
        Units::NONE
    }
}

impl Job for StepJob<'_> {
    fn open(&self, phase: usize) -> Option<Units> {
        Some(match self.stage(phase)? {
            Stage::Begin => self.rows(self.spec.embedding_len, |row, _| self.begin(row)),
            Stage::Prepare(product) => {
                if product == Product::Output(self.plan.layers.len() - 1) && self.chunk.output_rows.len() < self.num_rows() {
                    self.keep_output_rows();
                }
                self.rows(self.joined(product).k, |row, scratch| self.prepare(product, row, scratch))
            }
            Stage::Multiply(product) => {
                let [num_decodes, num_prompts] = self.num_rows_each();
                let (count, most) = self.joined(product).units(num_decodes, num_prompts);
                Units::of(count, most)
            }
            // SAFETY: the step is open over these rows; the team opens phases in order.
            Stage::Attend(layer, phase) => self.with_io(layer, |io| unsafe { self.backend.open(layer, phase, io) }),
        })
    }

    fn work(&self, phase: usize, units: Range<usize>, thread: usize) -> usize {
        // SAFETY: a thread has its own.
        let scratch = unsafe { &mut *self.scratch[thread].get() };
        let count = units.len();
        match self.stage(phase) {
            None => {}
            Some(Stage::Begin) => units.for_each(|row| self.begin(row)),
            Some(Stage::Prepare(product)) => units.for_each(|row| self.prepare(product, row, scratch)),
            Some(Stage::Multiply(product)) => {
                let [num_decodes, num_prompts] = self.num_rows_each();
                let rounded = self.at.rounded.map(|rounded| rounded.cast_const());
                let targets = self.targets(product);
                let rows = Rows { num_decodes, num_prompts, rounded: &rounded, tiles: self.at.tiles, targets: &targets };
                // SAFETY: the phase before rounded all rows; buffers hold them; units are handed out once.
                unsafe { self.joined(product).multiply(&rows, units, &mut scratch.linear) };
            }
            Some(Stage::Attend(layer, phase)) => {
                // SAFETY: as in `open`.
                return self.with_io(layer, |io| unsafe { self.backend.work(layer, phase, io, units, thread) });
            }
        }
        count
    }

    fn ahead(&self, phase: usize, thread: usize) -> Option<Ahead> {
        let Some(Stage::Multiply(product)) = self.stage(phase) else { return None };
        if self.num_rows() > FEW_ROWS {
            return None;
        }
        let (start, bytes) = self.joined(self.next(product)?).first_of(thread, self.scratch.len() - 1);
        Some(Ahead { start, bytes, ask: self.plan.ask? })
    }
}
