//! A step as a job for a team: its phases, and what their units are.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::slice::{from_raw_parts, from_raw_parts_mut};

use ctkvr_engine::Batch;
use ctkvr_kernels::{BLOCK, Kernels, TILE_ROWS, Tile};
use ctkvr_model::ModelSpec;
use ctkvr_threads::{Ahead, Job, Units};

use crate::attention::{ATTENTION_PHASES, AttentionStep, LayerIo};
use crate::linear::{Joined, Rows, Target};
use crate::plan::{Layer, Plan, Residual};
use crate::step_buffers::{MAX_ENCODINGS, StepBuffers, StepScratch};

/// Values that whoever opens a phase prepares alone: to share them takes longer.
const VALUES_ALONE: usize = 8 << 10;
/// Rows that a thread prepares at once.
const ROWS_AT_ONCE: usize = 4;
/// Rows of a product that is bound by its weights: those of the next one are asked for ahead.
const FEW_ROWS: usize = 8;
/// Phases of a layer behind its attention.
const PHASES_BEHIND: usize = 6;

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
    /// A layer's queries and keys are normed, each of a row as one.
    NormRows(usize),
    Attend(usize, usize),
}

/// What comes before a product.
#[derive(Clone, Copy)]
enum Before {
    Nothing(*const f32),
    Norm(*const f32, *const f32),
    /// activation(gate) * up.
    Gate(*const f32, *const f32, fn(&Kernels, &[f32], &[f32], &mut [f32])),
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
    block_out: *mut f32,
    logits: *mut f32,
    cos: *mut f32,
    sin: *mut f32,
    rounded: [*mut u8; MAX_ENCODINGS],
    tiles: *mut Tile,
}

pub(crate) struct StepJob<'a> {
    plan: &'a Plan,
    spec: &'a ModelSpec,
    attention: &'a AttentionStep<'a>,
    batch: &'a Batch<'a>,
    at: Pointers,
    /// Phases of a layer ahead of its attention.
    phases_ahead: usize,
    /// One for each thread, then one for who opens a phase.
    scratch: &'a [UnsafeCell<StepScratch>],
    /// Rows that go on, those of decodes and those of prompts behind them: after the last attention only those whose logits are wanted.
    /// Written by who opens a phase.
    num_rows: UnsafeCell<[usize; 2]>,
}

// SAFETY: buffers live as long as the job; units write parts of their own, and read what earlier phases wrote; what is opened is opened by one
// thread while no unit is worked on.
unsafe impl Sync for StepJob<'_> {}

/// What a step computes with.
pub(crate) struct StepParts<'a> {
    pub plan: &'a Plan,
    pub spec: &'a ModelSpec,
    pub attention: &'a AttentionStep<'a>,
    pub batch: &'a Batch<'a>,
    /// With room for the batch.
    pub buffers: &'a mut StepBuffers,
    /// One for each thread, then one for who opens a phase.
    pub scratch: &'a mut [UnsafeCell<StepScratch>],
    /// f32 `[outputs, vocab_size]`, written.
    pub logits: &'a mut [f32],
}

impl<'a> StepJob<'a> {
    /// The job of one batch.
    pub fn new(parts: StepParts<'a>) -> Self {
        let StepParts { plan, spec, attention, batch, buffers, scratch, logits } = parts;
        let at = Pointers {
            hidden: buffers.hidden.as_mut_ptr(),
            queries: buffers.queries.as_mut_ptr(),
            keys: buffers.keys.as_mut_ptr(),
            values: buffers.values.as_mut_ptr(),
            attended: buffers.attended.as_mut_ptr(),
            gate: buffers.gate.as_mut_ptr(),
            up: buffers.up.as_mut_ptr(),
            block_out: buffers.block_out.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
            cos: buffers.cos.as_mut_ptr(),
            sin: buffers.sin.as_mut_ptr(),
            rounded: buffers.rounded.each_mut().map(|words| words.as_mut_ptr().cast()),
            tiles: buffers.tiles.as_mut_ptr(),
        };
        let num_decodes = batch.num_decodes();
        let num_rows = [num_decodes, batch.num_rows() - num_decodes];
        let phases_ahead = if plan.norms_rows() { 3 } else { 2 };
        Self { plan, spec, attention, batch, at, phases_ahead, scratch, num_rows: UnsafeCell::new(num_rows) }
    }

    /// `None` behind the end.
    fn stage(&self, phase: usize) -> Option<Stage> {
        let Some(index) = phase.checked_sub(1) else { return Some(Stage::Begin) };
        let until_behind = self.phases_ahead + ATTENTION_PHASES;
        let (layer, within) = (index / (until_behind + PHASES_BEHIND), index % (until_behind + PHASES_BEHIND));
        if layer == self.plan.layers.len() {
            return match within {
                0 => Some(Stage::Prepare(Product::Logits)),
                1 => Some(Stage::Multiply(Product::Logits)),
                _ => None,
            };
        }
        // Keys and values are stored by the attention; without outputs nothing else of the last layer is needed.
        if layer + 1 == self.plan.layers.len() && self.batch.output_rows.is_empty() && within >= until_behind {
            return None;
        }
        Some(match within {
            0 => Stage::Prepare(Product::Qkv(layer)),
            1 => Stage::Multiply(Product::Qkv(layer)),
            _ if within < self.phases_ahead => Stage::NormRows(layer),
            _ => match within.checked_sub(until_behind) {
                None => Stage::Attend(layer, within - self.phases_ahead),
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
        let norm = |weight: Option<*const f32>| match weight {
            Some(weight) => Before::Norm(at.hidden, weight),
            None => Before::Nothing(at.hidden),
        };
        match product {
            Product::Qkv(i) => norm(layer(i).attention_norm),
            Product::Output(_) => Before::Nothing(at.attended),
            Product::GateAndUp(i) => norm(layer(i).feed_forward_norm),
            Product::Down(i) => Before::Gate(at.gate, at.up, layer(i).gate),
            Product::Logits => norm(Some(self.plan.output_norm)),
        }
    }

    /// How what the block before a product gave is still to be added to the hidden state that the product takes.
    fn residual_before(&self, product: Product) -> Option<Residual> {
        match product {
            Product::Qkv(0) | Product::Output(_) | Product::Down(_) => None,
            Product::Qkv(i) => self.plan.layers[i - 1].feed_forward_residual,
            Product::GateAndUp(i) => self.plan.layers[i].attention_residual,
            Product::Logits => self.plan.layers.last()?.feed_forward_residual,
        }
    }

    /// Where the results of a product's layers go; those beyond are not used.
    fn targets(&self, product: Product) -> [Target; MAX_ENCODINGS] {
        let (at, new) = (&self.at, |c: *mut f32| Target { c, is_residual: false });
        let added = |residual: Option<Residual>| match residual {
            Some(_) => [new(at.block_out); MAX_ENCODINGS],
            None => [Target { c: at.hidden, is_residual: true }; MAX_ENCODINGS],
        };
        match product {
            Product::Qkv(_) => [new(at.queries), new(at.keys), new(at.values)],
            Product::GateAndUp(_) => [new(at.gate), new(at.up), new(at.up)],
            Product::Output(i) => added(self.plan.layers[i].attention_residual),
            Product::Down(i) => added(self.plan.layers[i].feed_forward_residual),
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

    /// Looks up a row's token, and the cosines and sines of its position.
    fn begin(&self, row: usize) {
        let (width, half, num_tables) = (self.spec.embedding_len, self.plan.num_pairs(), self.plan.rotary.len());
        // SAFETY: the engine checked the token; the buffers hold the row.
        unsafe {
            self.plan.embedding.write(self.batch.tokens[row], self.at.hidden.add(row * width));
            for (i, table) in self.plan.rotary.iter().enumerate() {
                let of_row = |of: *mut f32| from_raw_parts_mut(of.add((row * num_tables + i) * half), half);
                table.write(self.batch.positions[row], of_row(self.at.cos), of_row(self.at.sin));
            }
        }
    }

    /// Rounds a row of a product's activations.
    fn prepare(&self, product: Product, row: usize, scratch: &mut StepScratch) {
        let (joined, kernels) = (self.joined(product), self.plan.kernels);
        let k = joined.k;
        let prepared = &mut scratch.row[..k];
        // SAFETY: the buffers hold the row, which is this unit's; the scratch holds k values.
        unsafe {
            if let Some(residual) = self.residual_before(product) {
                self.add_block(residual, row, prepared);
            }
            let of_row = |rows: *const f32| from_raw_parts(rows.add(row * k), k);
            let x = match self.before(product) {
                Before::Nothing(input) => of_row(input),
                Before::Norm(input, weight) => {
                    kernels.rms_norm(of_row(input), from_raw_parts(weight, k), self.spec.rms_epsilon, prepared);
                    if product == Product::Logits && self.plan.output_scale != 1.0 {
                        kernels.scale(prepared, self.plan.output_scale);
                    }
                    prepared
                }
                Before::Gate(gate, up, by) => {
                    by(kernels, of_row(gate), of_row(up), prepared);
                    prepared
                }
            };
            if let Some((tiles, row)) = joined.tiles.zip(row.checked_sub(self.num_rows_each()[0])) {
                let of_row = self.at.tiles.add(row / TILE_ROWS * (k / BLOCK));
                return tiles.narrow_row(x, row % TILE_ROWS, of_row);
            }
            for (encoding, out) in joined.encodings.iter().zip(self.at.rounded) {
                encoding.round(x.as_ptr(), k, out.add(row * encoding.row_bytes(k)));
            }
        }
    }

    /// Adds a row that a block gave to the hidden state.
    ///
    /// # Safety
    /// The buffers hold the row, which is the caller's; `normed` holds a row.
    unsafe fn add_block(&self, residual: Residual, row: usize, normed: &mut [f32]) {
        let (kernels, width) = (self.plan.kernels, self.spec.embedding_len);
        // SAFETY: the caller's.
        unsafe {
            let mut block_out: &[f32] = from_raw_parts(self.at.block_out.add(row * width), width);
            if let Some(weight) = residual.norm {
                kernels.rms_norm(block_out, from_raw_parts(weight, width), self.spec.rms_epsilon, normed);
                block_out = normed;
            }
            kernels.add_scaled(block_out, residual.scale, from_raw_parts_mut(self.at.hidden.add(row * width), width));
        }
    }

    /// Norms the queries of a row as one, and its keys.
    fn norm_row(&self, layer: usize, row: usize) {
        let ModelSpec { num_q_heads, num_kv_heads, head_dim, rms_epsilon, .. } = *self.spec;
        let Some(weights) = self.plan.layers[layer].row_norms else { return };
        for (values, num_heads, weight) in [(self.at.queries, num_q_heads, weights[0]), (self.at.keys, num_kv_heads, weights[1])] {
            let len = num_heads * head_dim;
            // SAFETY: the buffers hold the row, which is this unit's.
            unsafe {
                let values = from_raw_parts_mut(values.add(row * len), len);
                self.plan.kernels.rms_norm_in_place(values, from_raw_parts(weight, len), rms_epsilon);
            }
        }
    }

    /// Norms and turns the queries and the key of a row and KV head.
    fn finish_heads(&self, layer: &Layer, row: usize, kv_head: usize) {
        let ModelSpec { num_q_heads, num_kv_heads, head_dim: d, rms_epsilon, .. } = *self.spec;
        let (kernels, half, num_tables) = (self.plan.kernels, self.plan.num_pairs(), self.plan.rotary.len());
        let group = num_q_heads / num_kv_heads;
        // SAFETY: the buffers hold the row; these heads are this unit's.
        unsafe {
            let first = self.at.queries.add((row * num_q_heads + kv_head * group) * d);
            let key = self.at.keys.add((row * num_kv_heads + kv_head) * d);
            let finish = |head: *mut f32, which: usize| {
                let head = from_raw_parts_mut(head, d);
                if let Some(norms) = layer.head_norms {
                    kernels.rms_norm_in_place(head, from_raw_parts(norms[which], d), rms_epsilon);
                }
                if let Some(turn) = layer.turn {
                    let of_row = |of: *mut f32| from_raw_parts(of.add((row * num_tables + turn) * half), half);
                    (self.plan.rotate)(kernels, &mut head[..2 * half], of_row(self.at.cos), of_row(self.at.sin));
                }
            };
            (0..group).for_each(|head| finish(first.add(head * d), 0));
            finish(key, 1);
            if self.plan.query_scale != 1.0 {
                kernels.scale(from_raw_parts_mut(first, group * d), self.plan.query_scale);
            }
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
            prepare: &prepare,
        })
    }

    /// Leaves only the rows whose logits are wanted.
    fn keep_output_rows(&self) {
        let (width, attended) = (self.spec.embedding_len, self.spec.num_q_heads * self.spec.head_dim);
        for (to, &from) in self.batch.output_rows.iter().enumerate() {
            // SAFETY: who opens a phase is alone with the buffers; rows ascend, so that none is overwritten before it is read.
            unsafe {
                std::ptr::copy(self.at.hidden.add(from * width), self.at.hidden.add(to * width), width);
                std::ptr::copy(self.at.attended.add(from * attended), self.at.attended.add(to * attended), attended);
            }
        }
        let num_decodes = self.batch.num_decode_outputs();
        // SAFETY: as above.
        unsafe { *self.num_rows.get() = [num_decodes, self.batch.output_rows.len() - num_decodes] };
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
                if product == Product::Output(self.plan.layers.len() - 1) && self.batch.output_rows.len() < self.num_rows() {
                    self.keep_output_rows();
                }
                self.rows(self.joined(product).k, |row, scratch| self.prepare(product, row, scratch))
            }
            Stage::Multiply(product) => {
                let [num_decodes, num_prompts] = self.num_rows_each();
                let (count, most) = self.joined(product).units(num_decodes, num_prompts);
                Units::of(count, most)
            }
            Stage::NormRows(layer) => {
                let values = (self.spec.num_q_heads + self.spec.num_kv_heads) * self.spec.head_dim;
                self.rows(values, |row, _| self.norm_row(layer, row))
            }
            // SAFETY: the team opens phases in order, while nobody works.
            Stage::Attend(layer, phase) => unsafe { self.attention.open(layer, phase) },
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
            Some(Stage::NormRows(layer)) => units.for_each(|row| self.norm_row(layer, row)),
            Some(Stage::Attend(layer, phase)) => {
                // SAFETY: the phase was opened; the buffers hold the batch's rows, and no other phase runs.
                return self.with_io(layer, |io| unsafe { self.attention.work(layer, phase, io, units, thread) });
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
