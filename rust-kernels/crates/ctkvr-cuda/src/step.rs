//! One step: its inputs go to the device, its layers are launched one behind the other, its results come back.

use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_core::{Phase, StageTimes};
use ctkvr_engine::{Batch, BatchOutput, Error, Result, SequenceOutput};
use ctkvr_model::{Activation, NormSpan};

use crate::decode_step::DecodeStep;
use crate::launch::attend::splits_of;
use crate::launch::norm_round::{NormRound, NormRows};
use crate::launch::outputs::Outputs;
use crate::launch::prefill_attend::{PrefillAttend, RowTile, push_tiles};
use crate::launch::rope_store::RopeStore;
use crate::launch::silu_round::SiluRound;
use crate::matrix::DeviceMatrix;
use crate::on_device::OnDevice;
use crate::step_inputs::upload_rows;
use crate::step_memory::{StepMemory, StepSizes};
use crate::weights::{Layer, Vector};
use crate::{DeviceBuffer, Span};

/// A step whose inputs are on the device.
pub(crate) struct Step<'a> {
    on: &'a mut OnDevice,
    decodes: DecodeStep,
    tiles: Vec<RowTile>,
    rows: usize,
}

impl<'a> Step<'a> {
    /// Makes room, and brings rows, positions and page tables to the device.
    pub fn prepare(on: &'a mut OnDevice, batch: &Batch, output: &mut BatchOutput) -> Result<Self> {
        let shape = on.builder.shape;
        output.stages = StageTimes::default();
        output.sequences.clear();
        output.sequences.resize_with(batch.sequences.len(), SequenceOutput::default);
        let decodes = batch.num_decodes();
        let longest = batch.sequences[..decodes].iter().map(|of| of.sequence.len + 1).max().unwrap_or(0);
        let sizes = StepSizes {
            rows: batch.num_rows(),
            decodes,
            outputs: batch.output_rows.len(),
            splits: splits_of(longest),
            pages: batch.sequences.iter().map(|of| of.sequence.kv.pages().len()).sum(),
        };
        if !on.memory.sizes.hold(&sizes) {
            // The old memory goes first: there may not be room for both.
            let sizes = on.memory.sizes.joined(&sizes);
            on.memory = StepMemory::new(&on.device, on.model.spec(), StepSizes::default())?;
            on.memory = StepMemory::new(&on.device, on.model.spec(), sizes)?;
        }
        let tables = upload_rows(on, batch)?;
        let mut tiles = Vec::new();
        for of in batch.sequences.iter().filter(|of| of.append.phase == Phase::Prefill) {
            push_tiles(&mut tiles, of.rows(), shape.group_size());
        }
        on.device.compute().copy_in(on.memory.tiles.span().part(0..tiles.len()), &tiles)?;
        let decodes = DecodeStep::prepare(on, batch, &tables)?;
        Ok(Self { on, decodes, tiles, rows: batch.num_rows() })
    }

    /// Launches all layers and brings back what they gave.
    pub fn run(mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let num_layers = self.on.weights.layers.len();
        let mut block_scale = None;
        for index in 0..num_layers {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            self.attention(index, block_scale, batch, output)?;
            self.feed_forward(index)?;
            block_scale = Some(self.on.model.spec().description.layer.residual_scale);
        }
        self.logits(batch, output)?;
        self.keep_queries(batch)?;
        self.decodes.report(self.on, batch, output)
    }

    /// hidden += the block before it; the block of attention of one layer.
    fn attention(&mut self, index: usize, block_scale: Option<f32>, batch: &Batch, output: &mut BatchOutput) -> Result<()> {
        let layer = &self.on.weights.layers[index];
        let takers = [&layer.query, &layer.key, &layer.value];
        let normed = self.norm(layer.attention_norm.as_ref(), block_scale, &takers)?;
        let memory = &self.on.memory;
        for (matrix, out) in takers.into_iter().zip([&memory.queries, &memory.keys, &memory.values]) {
            self.multiply(matrix, &normed, out.span().part(0..self.rows * matrix.n))?;
        }
        self.norm_queries_and_keys(layer)?;
        self.rope_and_store(index)?;
        self.decodes.attend(self.on, index, batch, output)?;
        self.prefill(index)?;
        let (memory, layer) = (&self.on.memory, &self.on.weights.layers[index]);
        let activations = memory.attended_rounded.outputs(&[&layer.output], self.rows);
        let k = layer.output.k;
        self.round(memory.attended.span(), k, activations)?;
        let block = memory.block.span().part(0..self.rows * layer.output.n);
        self.multiply(&layer.output, &activations, block)?;
        self.norm_after(layer.attention_norm_after.as_ref())
    }

    /// hidden += attention's block; the block of the feed-forward of one layer.
    fn feed_forward(&self, index: usize) -> Result<()> {
        let (layer, memory) = (&self.on.weights.layers[index], &self.on.memory);
        let spec = &self.on.model.spec().description.layer;
        let Activation::Silu = spec.feed_forward.activation;
        let normed = self.norm(layer.feed_forward_norm.as_ref(), Some(spec.residual_scale), &[&layer.gate, &layer.up])?;
        let width = layer.gate.n;
        let both = memory.gate_and_up.span().part(0..self.rows * 2 * width);
        let up = both.part(width..both.len());
        for (matrix, out) in [(&layer.gate, both), (&layer.up, up)] {
            matrix.multiply(&self.on.device, &normed, out, (self.rows, 2 * width))?;
        }
        let out = memory.gated.outputs(&[&layer.down], self.rows);
        SiluRound { gate: both, up, stride: 2 * width, out, rows: self.rows, width }
            .launch(&self.on.device, self.on.device.compute())?;
        self.multiply(&layer.down, &out, memory.block.span().part(0..self.rows * layer.down.n))?;
        self.norm_after(layer.feed_forward_norm_after.as_ref())
    }

    /// hidden += scale * block, where there is one; then the norm, rounded for those who take it.
    fn norm(&self, weight: Option<&Vector>, block_scale: Option<f32>, takers: &[&DeviceMatrix]) -> Result<Outputs> {
        let (memory, width, rows) = (&self.on.memory, takers[0].k, self.rows);
        let out = memory.normed.outputs(takers, rows);
        let norm = NormRound {
            hidden: memory.hidden.span(),
            hidden_stride: width,
            row_of: Span::EMPTY,
            block: block_scale.map_or(Span::EMPTY, |_| memory.block.span()),
            block_stride: width,
            block_scale: block_scale.unwrap_or(0.0),
            weight: weight.map_or(Span::EMPTY, DeviceBuffer::span),
            epsilon: self.on.model.spec().rms_epsilon,
            factor: 1.0,
            out,
            rows,
            width,
        };
        norm.launch(&self.on.device, self.on.device.compute())?;
        Ok(out)
    }

    /// Rows of `width` values, rounded as they are.
    fn round(&self, rows: Span<f32>, width: usize, out: Outputs) -> Result<()> {
        let rounding = NormRound {
            hidden: rows,
            hidden_stride: width,
            row_of: Span::EMPTY,
            block: Span::EMPTY,
            block_stride: width,
            block_scale: 0.0,
            weight: Span::EMPTY,
            epsilon: 0.0,
            factor: 1.0,
            out,
            rows: self.rows,
            width,
        };
        Ok(rounding.launch(&self.on.device, self.on.device.compute())?)
    }

    /// The norm of a block before it is added, where the model has one.
    fn norm_after(&self, weight: Option<&Vector>) -> Result<()> {
        let Some(weight) = weight else { return Ok(()) };
        let block = self.on.memory.block.span();
        self.norm_rows(block, weight, 1)
    }

    /// Norms of `spans` spans of each row, in place.
    fn norm_rows(&self, x: Span<f32>, weight: &Vector, spans: usize) -> Result<()> {
        let (span, device) = (weight.len(), &self.on.device);
        let epsilon = self.on.model.spec().rms_epsilon;
        let stride = spans * span;
        let norm = NormRows { x, stride, out: x, out_stride: stride, weight: weight.span(), epsilon, rows: self.rows, spans, span };
        Ok(norm.launch(device, device.compute())?)
    }

    fn norm_queries_and_keys(&self, layer: &Layer) -> Result<()> {
        let Some(norms) = &layer.query_key_norms else { return Ok(()) };
        let (memory, shape) = (&self.on.memory, self.on.builder.shape);
        let heads = |count| if norms.span == NormSpan::Head { count } else { 1 };
        self.norm_rows(memory.queries.span(), &norms.query, heads(shape.num_q_heads))?;
        self.norm_rows(memory.keys.span(), &norms.key, heads(shape.num_kv_heads))
    }

    fn multiply(&self, matrix: &DeviceMatrix, rows: &Outputs, out: Span<f32>) -> Result<()> {
        Ok(matrix.multiply(&self.on.device, rows, out, (self.rows, matrix.n))?)
    }

    /// Queries and keys are turned; keys and values go to their pages.
    fn rope_and_store(&self, index: usize) -> Result<()> {
        let OnDevice { memory, device, weights, builder, .. } = &*self.on;
        let (shape, rows) = (builder.shape, self.rows);
        let (d, pairs) = (shape.head_dim, weights.rotary.num_pairs());
        let (q, kv) = (shape.num_q_heads * d, shape.num_kv_heads * d);
        for part in &self.decodes.slots.formats {
            let (first, last) = (part.rows.start, part.rows.end);
            let store = RopeStore {
                queries: memory.queries.span().part(first * q..last * q),
                keys: memory.keys.span().part(first * kv..last * kv),
                values: memory.values.span().part(first * kv..last * kv),
                cos: memory.cos.span().part(first * pairs..last * pairs),
                sin: memory.sin.span().part(first * pairs..last * pairs),
                places: memory.places.span().part(first..last),
                recent: memory.recent.span().part((index * rows + first) * q..(index * rows + last) * q),
                layout: shape.page_shape().head_layout(part.format),
                first_head: index * shape.num_kv_heads,
                num_q_heads: shape.num_q_heads,
                num_kv_heads: shape.num_kv_heads,
                num_pairs: pairs,
                pairing: self.on.model.spec().rope.pairing,
                query_factor: weights.query_factor,
            };
            store.launch(device, device.compute())?;
        }
        Ok(())
    }

    /// Rows of prompts attend to everything up to themselves.
    fn prefill(&self, index: usize) -> Result<()> {
        let OnDevice { memory, device, builder, .. } = &*self.on;
        let (shape, rows) = (builder.shape, self.rows);
        let q = shape.num_q_heads * shape.head_dim;
        for part in &self.decodes.slots.formats {
            let inside = |tile: &RowTile| part.rows.contains(&(tile.first_row as usize));
            let (Some(first), Some(last)) = (self.tiles.iter().position(inside), self.tiles.iter().rposition(inside)) else {
                continue;
            };
            let attend = PrefillAttend {
                queries: memory.queries.span().part(0..rows * q),
                places: memory.places.span().part(0..rows),
                tiles: memory.tiles.span().part(first..last + 1),
                out: memory.attended.span().part(0..rows * q),
                layout: shape.page_shape().head_layout(part.format),
                first_head: index * shape.num_kv_heads,
                num_kv_heads: shape.num_kv_heads,
                group: shape.group_size(),
            };
            attend.launch(device, device.compute())?;
        }
        Ok(())
    }

    /// The last norm and the output's product of the rows whose logits are wanted.
    fn logits(&self, batch: &Batch, output: &mut BatchOutput) -> Result<()> {
        let OnDevice { memory, device, weights, model, .. } = &*self.on;
        let (spec, outputs, width) = (model.spec(), batch.output_rows.len(), weights.output.k);
        let listed: Vec<u32> = batch.output_rows.iter().map(|row| *row as u32).collect();
        device.compute().copy_in(memory.output_rows.span().part(0..outputs), &listed)?;
        let out = memory.last.outputs(&[&weights.output], outputs);
        let norm = NormRound {
            hidden: memory.hidden.span(),
            hidden_stride: width,
            row_of: memory.output_rows.span().part(0..outputs),
            block: memory.block.span(),
            block_stride: width,
            block_scale: spec.description.layer.residual_scale,
            weight: weights.output_norm.span(),
            epsilon: spec.rms_epsilon,
            factor: spec.description.output.scale,
            out,
            rows: outputs,
            width,
        };
        if outputs > 0 {
            norm.launch(device, device.compute())?;
        }
        let len = outputs * spec.vocab_size;
        let logits = memory.logits.span().part(0..len);
        weights.output.multiply(device, &out, logits, (outputs, spec.vocab_size))?;
        output.reserve_logits(len)?;
        Ok(device.compute().copy_out(&mut output.logits[..len], logits)?)
    }

    /// Queries that sequences keep come to their rings.
    fn keep_queries(&self, batch: &Batch) -> Result<()> {
        let OnDevice { memory, device, builder, .. } = &*self.on;
        let q = builder.shape.num_q_heads * builder.shape.head_dim;
        let kept = |of: &ctkvr_engine::BatchRows| of.append.queries.skip < of.append.num_rows;
        let Some(most) = batch.sequences.iter().filter(|of| kept(of)).map(|of| of.append.num_rows).max() else { return Ok(()) };
        let mut rows = vec![0u16; most * q];
        for layer in 0..builder.shape.num_layers {
            for of in batch.sequences.iter().filter(|of| kept(of)) {
                let skip = of.append.queries.skip;
                let (first, last) = (layer * self.rows + of.first_row + skip, layer * self.rows + of.rows().end);
                let rows = &mut rows[..(last - first) * q];
                device.compute().copy_out(rows, memory.recent.span().part(first * q..last * q))?;
                for (i, row) in rows.chunks_exact(q).enumerate() {
                    let slot = of.sequence.recent.write_slot(layer, &of.append.queries, skip + i);
                    // SAFETY: the batch made the rings this sequence's own; a slot holds a row of queries.
                    unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), slot, q) };
                }
            }
        }
        Ok(())
    }
}
