//! One step: its inputs go to the device, its layers are launched one behind the other, its results come back.
//!
//! Where layers are in host memory a step has two parts with half of the decodes each. While the host works on one part's layer, the device
//! has the other part's: each layer begins (up to where the host's part is missing) and ends, and parts take turns.

use std::ops::Range;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};

use ctkvr_core::{Phase, StageTimes};
use ctkvr_engine::{Batch, BatchOutput, BatchRows, Error, Result, SequenceOutput};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Activation, NormSpan, logits_not_finite};

use crate::batch_part::BatchPart;
use crate::counted::Counted;
use crate::decode_report::report;
use crate::decode_slots::Place;
use crate::decode_step::DecodeStep;
use crate::launch::argmax::{self, Argmax};
use crate::launch::attend::splits_of;
use crate::launch::norm_round::{NormRound, NormRows};
use crate::launch::outputs::Outputs;
use crate::launch::prefill_attend::{PrefillAttend, RowTile, push_tiles};
use crate::launch::rope_store::RopeStore;
use crate::launch::silu_round::SiluRound;
use crate::launch::slot::RowPlace;
use crate::matrix::DeviceMatrix;
use crate::on_device::OnDevice;
use crate::page_tables::place_copies;
use crate::staging::Staged;
use crate::step_graphs::{FormatKey, GraphKey, StepGraphs};
use crate::step_inputs::StepInputs;
use crate::step_results::StepResults;
use crate::step_sizes::StepSizes;
use crate::weights::{Layer, Vector};
use crate::write_rows::write_rows;
use crate::{DeviceBuffer, Span};

/// The decodes of each lane's last step: the next one finds their vectors long enough.
pub(crate) type KeptDecodes = [DecodeStep; 2];

/// Takes a batch through the model.
///
/// # Errors
/// `Cancelled`, `OutOfMemory`, `DeviceLost`.
pub(crate) fn run(
    on: &mut OnDevice,
    kept: &mut KeptDecodes,
    batch: &Batch,
    output: &mut BatchOutput,
    cancel: &AtomicBool,
) -> Result<()> {
    output.stages = StageTimes::default();
    output.sequences.clear();
    output.sequences.resize_with(batch.sequences.len(), SequenceOutput::default);
    output.tokens.clear();
    let num_logits = if batch.tokens_only { 0 } else { batch.output_rows.len() * on.model.spec().vocab_size };
    output.reserve_logits(num_logits)?;
    let parts = if on.lanes.len() > 1 { BatchPart::halves(batch) } else { vec![BatchPart::whole(batch)] };
    // All copies first: a page may be dropped from the device for one part alone.
    place_copies(&on.pool, &BatchPart::whole(batch))?;
    let mut steps = Vec::with_capacity(parts.len());
    for (lane, part) in parts.iter().enumerate() {
        steps.push(Step::prepare(on, lane, part, std::mem::take(&mut kept[lane]))?);
    }
    // Of one lane, as there is nothing for the host in it.
    let mut graphs = std::mem::take(&mut on.lanes[0].graphs);
    let outcome = take_through(on, &mut graphs, &mut steps, output, cancel);
    on.lanes[0].graphs = graphs;
    for step in steps {
        kept[step.lane] = step.decodes;
    }
    outcome
}

/// Layers, logits, and what comes back.
fn take_through(
    on: &OnDevice,
    graphs: &mut StepGraphs,
    steps: &mut [Step],
    output: &mut BatchOutput,
    cancel: &AtomicBool,
) -> Result<()> {
    let go = || if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) };
    let num_layers = on.weights.layers.len();
    if let [step] = &mut steps[..]
        && let Some(key) = step.graph_key()
    {
        go()?;
        graphs.launch(on.device.compute(), key, || {
            for layer in 0..num_layers {
                step.begin_layer(on, layer)?;
                step.end_layer(on, layer, cancel)?;
            }
            step.make_logits(on)
        })?;
    } else {
        for layer in 0..=num_layers {
            for step in &mut *steps {
                if layer > 0 {
                    step.end_layer(on, layer - 1, cancel)?;
                }
                go()?;
                if layer < num_layers {
                    step.begin_layer(on, layer)?;
                }
            }
        }
        steps.iter().try_for_each(|step| step.make_logits(on))?;
    }
    for step in &*steps {
        step.decodes.audit(on)?;
        step.fetch(on, output)?;
    }
    on.wait()?;
    steps.iter_mut().try_for_each(|step| step.finish(on, output))
}

/// A part of a step whose inputs are on the device.
struct Step<'b, 'a> {
    part: &'b BatchPart<'b, 'a>,
    lane: usize,
    decodes: DecodeStep,
    tiles: Vec<RowTile>,
    /// Of prompts, where layers are in host memory.
    staged: Option<Staged>,
    rows: usize,
}

impl<'b, 'a> Step<'b, 'a> {
    /// Makes room, and brings what the step is of to the device.
    fn prepare(on: &mut OnDevice, lane: usize, part: &'b BatchPart<'b, 'a>, mut decodes: DecodeStep) -> Result<Self> {
        let shape = on.builder.shape;
        let num_decodes = part.num_decodes();
        let longest = part.sequences()[..num_decodes].iter().map(|of| of.sequence.len + 1).max().unwrap_or(0);
        let mut tables = std::mem::take(&mut on.lanes[lane].tables);
        tables.fill(&on.pool, part);
        let sizes = StepSizes {
            rows: part.num_rows(),
            decodes: num_decodes,
            outputs: part.outputs.len(),
            splits: splits_of(longest),
            pages: tables.entries.len(),
        };
        on.lanes[lane].make_room(&on.device, on.model.spec(), &sizes)?;
        let (spec, memory) = (on.model.spec(), on.memory(lane));
        let inputs = StepInputs::of(memory.inputs.address(), spec, &sizes);
        let results = StepResults::of(memory.results.address(), spec, &sizes);
        tables.at(inputs.page_tables.address());
        write_rows(on, lane, part, &inputs, &tables)?;
        let mut tiles = Vec::new();
        for of in part.sequences().iter().filter(|of| of.append.phase == Phase::Prefill) {
            push_tiles(&mut tiles, part.rows_of(of), shape.group_size());
        }
        on.lanes[lane].memory.inputs.host_mut(inputs.tiles.part(0..tiles.len())).copy_from_slice(&tiles);
        (decodes.inputs, decodes.results) = (inputs, results);
        decodes.prepare(on, lane, part, &tables)?;
        on.lanes[lane].tables = tables;
        // SAFETY: the lane's next step writes it, behind this one's end, which waits for the stream however it comes about; buffers of a lane are
        // replaced between steps.
        unsafe { on.memory(lane).inputs.send(on.device.compute(), inputs.whole)? };
        let staged = Staged::prepare(&on.device, &on.pool, &mut on.lanes[lane].staging, part)?;
        if let (Some(staged), Some(staging)) = (&staged, &on.lanes[lane].staging) {
            // What rooms and tables were made with is there before copies of the other stream need it.
            on.device.compute().wait()?;
            staged.fetch(&on.device, staging, 0)?;
        }
        Ok(Self { part, lane, decodes, tiles, staged, rows: part.num_rows() })
    }

    /// hidden += the block before it; then a layer's attention, up to where the host's part is missing.
    fn begin_layer(&mut self, on: &OnDevice, index: usize) -> Result<()> {
        self.fetch_next(on, index)?;
        let (layer, memory) = (&on.weights.layers[index], on.memory(self.lane));
        let block_scale = (index > 0).then_some(on.model.spec().description.layer.residual_scale);
        let normed = self.norm(on, layer.attention_norm.as_ref(), block_scale, layer.projections.matrices())?;
        layer.projections.multiply(&on.device, &normed, memory.projected.span(), self.rows)?;
        self.norm_queries_and_keys(on, layer)?;
        self.rope_and_store(on, index)?;
        self.decodes.begin(on, index, self.part)?;
        self.prefill(on, index)
    }

    /// The rest of a layer.
    fn end_layer(&mut self, on: &OnDevice, index: usize, cancel: &AtomicBool) -> Result<()> {
        self.decodes.end(on, index, self.part, cancel)?;
        let (memory, layer) = (on.memory(self.lane), &on.weights.layers[index]);
        let activations = memory.attended_rounded.outputs(from_ref(&layer.output), self.rows);
        self.round(on, memory.attended.span(), layer.output.k, activations)?;
        let block = memory.block.span().part(0..self.rows * layer.output.n);
        self.multiply(on, &layer.output, &activations, block)?;
        self.norm_after(on, layer.attention_norm_after.as_ref())?;
        self.feed_forward(on, index)
    }

    /// hidden += attention's block; the block of the feed-forward of one layer.
    fn feed_forward(&self, on: &OnDevice, index: usize) -> Result<()> {
        let (layer, memory) = (&on.weights.layers[index], on.memory(self.lane));
        let spec = &on.model.spec().description.layer;
        // A model with another one was refused when it was loaded.
        debug_assert_eq!(spec.feed_forward.activation, Activation::Silu);
        let takers = layer.gate_and_up.matrices();
        let normed = self.norm(on, layer.feed_forward_norm.as_ref(), Some(spec.residual_scale), takers)?;
        let width = layer.down.k;
        let both = memory.gate_and_up.span().part(0..self.rows * 2 * width);
        let up = both.part(width..both.len());
        layer.gate_and_up.multiply(&on.device, &normed, both, self.rows)?;
        let out = memory.gated.outputs(from_ref(&layer.down), self.rows);
        SiluRound { gate: both, up, stride: 2 * width, out, rows: self.rows, width }.launch(&on.device, on.device.compute())?;
        self.multiply(on, &layer.down, &out, memory.block.span().part(0..self.rows * layer.down.n))?;
        self.norm_after(on, layer.feed_forward_norm_after.as_ref())
    }

    /// hidden += scale * block, where there is one; then the norm, rounded for those who take it.
    fn norm(&self, on: &OnDevice, weight: Option<&Vector>, block_scale: Option<f32>, takers: &[DeviceMatrix]) -> Result<Outputs> {
        let (memory, width, rows) = (on.memory(self.lane), takers[0].k, self.rows);
        let out = memory.normed.outputs(takers, rows);
        let norm = NormRound {
            hidden: self.decodes.inputs.hidden,
            hidden_stride: width,
            row_of: Span::EMPTY,
            block: block_scale.map_or(Span::EMPTY, |_| memory.block.span()),
            block_stride: width,
            block_scale: block_scale.unwrap_or(0.0),
            weight: weight.map_or(Span::EMPTY, DeviceBuffer::span),
            epsilon: on.model.spec().rms_epsilon,
            factor: 1.0,
            out,
            rows,
            width,
        };
        norm.launch(&on.device, on.device.compute())?;
        Ok(out)
    }

    /// Rows of `width` values, rounded as they are.
    fn round(&self, on: &OnDevice, rows: Span<f32>, width: usize, out: Outputs) -> Result<()> {
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
        Ok(rounding.launch(&on.device, on.device.compute())?)
    }

    /// The norm of a block before it is added, where the model has one.
    fn norm_after(&self, on: &OnDevice, weight: Option<&Vector>) -> Result<()> {
        let Some(weight) = weight else { return Ok(()) };
        let block = on.memory(self.lane).block.span();
        self.norm_rows(on, block, weight.len(), weight, 1)
    }

    /// Norms of the first spans of each row, as many as are said, in place; rows are `stride` values apart.
    fn norm_rows(&self, on: &OnDevice, x: Span<f32>, stride: usize, weight: &Vector, spans: usize) -> Result<()> {
        let (span, device) = (weight.len(), &on.device);
        let epsilon = on.model.spec().rms_epsilon;
        let norm = NormRows { x, stride, out: x, out_stride: stride, weight: weight.span(), epsilon, rows: self.rows, spans, span };
        Ok(norm.launch(device, device.compute())?)
    }

    fn norm_queries_and_keys(&self, on: &OnDevice, layer: &Layer) -> Result<()> {
        let Some(norms) = &layer.query_key_norms else { return Ok(()) };
        let shape = on.builder.shape;
        let heads = |count| if norms.span == NormSpan::Head { count } else { 1 };
        let projected = self.projected(on, 0..self.rows);
        self.norm_rows(on, projected.queries, projected.stride, &norms.query, heads(shape.num_q_heads))?;
        self.norm_rows(on, projected.keys, projected.stride, &norms.key, heads(shape.num_kv_heads))
    }

    fn multiply(&self, on: &OnDevice, matrix: &DeviceMatrix, rows: &Outputs, out: Span<f32>) -> Result<()> {
        Ok(matrix.multiply(&on.device, rows, out, (self.rows, matrix.n))?)
    }

    /// What the layer's projections gave for some rows.
    fn projected(&self, on: &OnDevice, rows: Range<usize>) -> Projected {
        let shape = on.builder.shape;
        let (q, kv) = (shape.num_q_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim);
        let stride = q + 2 * kv;
        let rows = on.memory(self.lane).projected.span().part(rows.start * stride..rows.end * stride);
        let from = |column: usize| rows.part(column.min(rows.len())..rows.len());
        Projected { queries: from(0), keys: from(q), values: from(q + kv), stride }
    }

    /// Queries and keys are turned; keys and values go to their pages.
    fn rope_and_store(&self, on: &OnDevice, index: usize) -> Result<()> {
        let (inputs, placement) = (&self.decodes.inputs, on.pool.placement());
        let first_head = index * on.builder.shape.num_kv_heads;
        for part in &self.decodes.slots.formats {
            if !placement.is_hybrid(index) {
                let rows = part.rows.clone();
                let places = inputs.places.part(rows.clone());
                self.store(on, index, &Stored { rows, places, first_head, format: part.format, takes_queries: true })?;
                continue;
            }
            let rows = part.decodes.clone();
            let (near, far) = (inputs.recent_places.part(rows.clone()), inputs.host_places.part(rows.clone()));
            let near =
                Stored { rows, places: near, first_head: placement.of_host(first_head), format: part.format, takes_queries: true };
            self.store(on, index, &near)?;
            self.store(on, index, &Stored { places: far, takes_queries: false, ..near })?;
            if let Some(places) = self.staged_places(on, index)? {
                let rows = part.decodes.end..part.rows.end;
                let places = places.part(rows.clone());
                self.store(on, index, &Stored { rows, places, first_head: 0, format: part.format, takes_queries: true })?;
            }
        }
        Ok(())
    }

    /// Where prompts of a layer in host memory are stored and read meanwhile, `[rows]`.
    fn staged_places(&self, on: &OnDevice, index: usize) -> Result<Option<Span<RowPlace>>> {
        let (Some(staged), Some(staging)) = (&self.staged, &on.lanes[self.lane].staging) else { return Ok(None) };
        Ok(Some(staged.places(&on.device, staging, on.pool.placement().of_hybrid(index), self.rows)?))
    }

    fn store(&self, on: &OnDevice, index: usize, stored: &Stored) -> Result<()> {
        let OnDevice { device, weights, builder, .. } = on;
        let (memory, shape, rows) = (on.memory(self.lane), builder.shape, self.rows);
        let (d, pairs) = (shape.head_dim, weights.rotary.num_pairs());
        let q = shape.num_q_heads * d;
        let (first, last) = (stored.rows.start, stored.rows.end);
        let recent = memory.recent.span().part((index * rows + first) * q..(index * rows + last) * q);
        let Projected { queries, keys, values, stride } = self.projected(on, stored.rows.clone());
        let store = RopeStore {
            queries,
            keys,
            values,
            stride,
            turned: if stored.takes_queries { memory.queries.span().part(first * q..last * q) } else { Span::EMPTY },
            cos: self.decodes.inputs.cos().part(first * pairs..last * pairs),
            sin: self.decodes.inputs.sin().part(first * pairs..last * pairs),
            places: stored.places,
            recent: if stored.takes_queries { recent } else { Span::EMPTY },
            layout: on.pool.head_layout(stored.format),
            first_head: stored.first_head,
            num_q_heads: if stored.takes_queries { shape.num_q_heads } else { 0 },
            num_kv_heads: shape.num_kv_heads,
            num_pairs: pairs,
            pairing: on.model.spec().rope.pairing,
            query_factor: weights.query_factor,
        };
        Ok(store.launch(device, device.compute())?)
    }

    /// Rows of prompts attend to everything up to themselves.
    fn prefill(&self, on: &OnDevice, index: usize) -> Result<()> {
        let OnDevice { device, builder, pool, .. } = on;
        let (memory, shape, rows) = (on.memory(self.lane), builder.shape, self.rows);
        let q = shape.num_q_heads * shape.head_dim;
        let staged = if pool.placement().is_hybrid(index) { self.staged_places(on, index)? } else { None };
        for part in &self.decodes.slots.formats {
            let inside = |tile: &RowTile| part.rows.contains(&(tile.first_row as usize));
            let (Some(first), Some(last)) = (self.tiles.iter().position(inside), self.tiles.iter().rposition(inside)) else {
                continue;
            };
            let attend = PrefillAttend {
                queries: memory.queries.span().part(0..rows * q),
                places: staged.unwrap_or_else(|| self.decodes.inputs.places.part(0..rows)),
                tiles: self.decodes.inputs.tiles.part(first..last + 1),
                out: memory.attended.span().part(0..rows * q),
                layout: pool.head_layout(part.format),
                first_head: if staged.is_some() { 0 } else { index * shape.num_kv_heads },
                num_kv_heads: shape.num_kv_heads,
                group: shape.group_size(),
            };
            attend.launch(device, device.compute())?;
        }
        self.give_back(on, index)
    }

    /// The keys and values that prompts read in the next layer of host memory come, beside what follows.
    fn fetch_next(&self, on: &OnDevice, index: usize) -> Result<()> {
        let (Some(staged), Some(staging)) = (&self.staged, &on.lanes[self.lane].staging) else { return Ok(()) };
        let (next, placement) = (index + 1, on.pool.placement());
        if placement.is_hybrid(index) && next < on.weights.layers.len() {
            staged.fetch(&on.device, staging, placement.of_hybrid(next))?;
        }
        Ok(())
    }

    /// What prompts wrote in a layer of host memory goes back, beside what follows.
    fn give_back(&self, on: &OnDevice, index: usize) -> Result<()> {
        let (Some(staged), Some(staging)) = (&self.staged, &on.lanes[self.lane].staging) else { return Ok(()) };
        let placement = on.pool.placement();
        if placement.is_hybrid(index) {
            staged.give_back(&on.device, staging, placement.of_hybrid(index))?;
        }
        Ok(())
    }

    /// What its launches depend on, where all of them can be one graph: decodes alone, all on the device.
    fn graph_key(&self) -> Option<GraphKey> {
        let slots = &self.decodes.slots;
        let fits = self.has_decodes_alone() && slots.slots.iter().all(|slot| slot.place == Place::Device);
        fits.then(|| GraphKey {
            outputs: self.part.outputs.len(),
            tokens_only: self.part.batch.tokens_only,
            formats: slots.formats.iter().map(FormatKey::from).collect(),
        })
    }

    /// The last norm and the output's product of the rows whose logits are wanted.
    fn make_logits(&self, on: &OnDevice) -> Result<()> {
        let OnDevice { device, weights, model, .. } = on;
        let (memory, spec, rows, width) = (on.memory(self.lane), model.spec(), self.part.outputs.len(), weights.output.k);
        if rows == 0 {
            return Ok(());
        }
        let out = memory.last.outputs(from_ref(&weights.output), rows);
        let norm = NormRound {
            hidden: self.decodes.inputs.hidden,
            hidden_stride: width,
            row_of: self.decodes.inputs.output_rows,
            block: memory.block.span(),
            block_stride: width,
            block_scale: spec.description.layer.residual_scale,
            weight: weights.output_norm.span(),
            epsilon: spec.rms_epsilon,
            factor: spec.description.output.scale,
            out,
            rows,
            width,
        };
        norm.launch(device, device.compute())?;
        let logits = memory.logits.span().part(0..rows * spec.vocab_size);
        weights.output.multiply(device, &out, logits, (rows, spec.vocab_size))?;
        if self.part.batch.tokens_only {
            let (best, ids) = (memory.best.span().part(0..rows * argmax::PARTS), self.decodes.results.tokens);
            let argmax = Argmax { logits, stride: spec.vocab_size, best, ids, rows, vocab: spec.vocab_size };
            argmax.launch(device, device.compute())?;
        }
        Ok(())
    }

    /// Results, queries and logits come back, later but for logits.
    fn fetch(&self, on: &OnDevice, output: &mut BatchOutput) -> Result<()> {
        let (memory, stream) = (on.memory(self.lane), on.device.compute());
        // SAFETY: the host reads it when the step has waited for the stream, and the next step, which replaces buffers, comes after that.
        unsafe { memory.results.fetch(stream, self.decodes.results.whole)? };
        if self.has_decodes_alone() {
            let len = if self.kept_queries().next().is_some() { self.layers_len(on) } else { 0 };
            // SAFETY: as above.
            unsafe { stream.copy_out_pinned(memory.fetched_recent.span().part(0..len), memory.recent.span().part(0..len))? };
        }
        if self.part.batch.tokens_only {
            return Ok(());
        }
        let (vocab_size, outputs) = (on.model.spec().vocab_size, &self.part.outputs);
        let to = &mut output.logits[outputs.start * vocab_size..outputs.end * vocab_size];
        let logits = memory.logits.span().part(0..to.len());
        Ok(stream.copy_out(to, logits)?)
    }

    /// Makes what has come back the batch's.
    fn finish(&mut self, on: &OnDevice, output: &mut BatchOutput) -> Result<()> {
        if self.part.batch.tokens_only {
            for token in on.memory(self.lane).results.host(self.decodes.results.tokens) {
                if token & argmax::NOT_FINITE != 0 {
                    return Err(logits_not_finite((token & !argmax::NOT_FINITE) as usize));
                }
                output.tokens.push(*token as i32);
            }
        }
        self.keep_queries(on)?;
        report(on, self.lane, &mut self.decodes, self.part)?;
        let first = self.part.sequences.start;
        for (of, counted) in output.sequences[first..].iter_mut().zip(self.decodes.counted.drain(..)) {
            let Counted { counters, repairs, .. } = counted;
            of.counters = Some(counters);
            of.repairs = repairs;
        }
        Ok(())
    }

    fn has_decodes_alone(&self) -> bool {
        self.decodes.slots.num_decodes() == self.rows
    }

    /// Values of the queries of all layers.
    fn layers_len(&self, on: &OnDevice) -> usize {
        let shape = on.builder.shape;
        shape.num_layers * self.rows * shape.num_q_heads * shape.head_dim
    }

    /// Sequences that keep queries of their rows.
    fn kept_queries(&self) -> impl Iterator<Item = &BatchRows<'a>> + Clone {
        self.part.sequences().iter().filter(|of| of.append.queries.skip < of.append.num_rows)
    }

    /// Queries that sequences keep come to their rings. Those of decodes alone have come back in one piece; of a prompt, only the last rows do.
    fn keep_queries(&self, on: &OnDevice) -> Result<()> {
        let OnDevice { device, builder, .. } = on;
        let q = builder.shape.num_q_heads * builder.shape.head_dim;
        let (memory, mut rows) = (on.memory(self.lane), Vec::new());
        for layer in 0..builder.shape.num_layers {
            for of in self.kept_queries() {
                let (skip, of_part) = (of.append.queries.skip, self.part.rows_of(of));
                let (first, last) = (layer * self.rows + of_part.start + skip, layer * self.rows + of_part.end);
                let rows = if self.has_decodes_alone() {
                    &memory.fetched_recent.as_slice()[first * q..last * q]
                } else {
                    rows.resize((last - first) * q, 0u16);
                    device.compute().copy_out(&mut rows, memory.recent.span().part(first * q..last * q))?;
                    &rows
                };
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

/// Rows of queries, keys and values that lie side by side.
struct Projected {
    queries: Span<f32>,
    keys: Span<f32>,
    values: Span<f32>,
    /// Values between rows of each.
    stride: usize,
}

/// Rows of one format whose keys and values are stored in one place.
#[derive(Clone)]
struct Stored {
    rows: Range<usize>,
    places: Span<RowPlace>,
    /// Of the layer, in pages of that place.
    first_head: usize,
    format: KvFormat,
    /// Whether queries are turned as well: once.
    takes_queries: bool,
}
