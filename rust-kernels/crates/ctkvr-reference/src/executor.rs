//! A step from its tokens to its logits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::retriever::HeadState;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::sequence::lifecycle::{HeadMaker, HeadTask};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{AttentionShape, StageTimes};
use ctkvr_engine::{Batch, BatchOutput, Capabilities, Error, Executor, Result, SequenceOutput};
use ctkvr_kernels::Kernels;
use ctkvr_model::{
    AttentionSpec, Description, LayerSpec, LinearSpec, Matrices, Matrix, Model, NormSpan, RopePairing, RotaryTable, VectorSpec,
    layer_tensor,
};

use crate::attention::{Attention, LayerRows};
use crate::layers::{Rows, add, gated, product, rms_norm, scale};

const MAX_ROWS: usize = 1 << 14;

/// Computes steps in plain loops.
pub struct ReferenceExecutor {
    model: Arc<Model>,
    weights: Matrices,
    rotary: Vec<RotaryTable>,
    attention: Attention,
    pool: Arc<HostKvPool>,
}

impl ReferenceExecutor {
    /// For a model whose weights stay in its file.
    ///
    /// # Errors
    /// None that a checked model gives.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let (spec, weights) = (model.spec(), Matrices::of(&model));
        let shape = spec.attention_shape();
        let factors = spec.description.rotary.factors.and_then(|factors| weights.find(&model, factors.name));
        let factors = factors.map(|factors| factors.row(0));
        let rotary = spec.rotary_tables(factors.as_deref());
        let kernels = Kernels::named("scalar", shape.head_dim)?;
        let pool = Arc::new(HostKvPool::new(shape.page_shape(), None));
        Ok(Self { weights, rotary, attention: Attention { shape, kernels }, pool, model })
    }

    fn run(&self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let spec = self.model.spec();
        let Description { embedding, layer, output: last, .. } = &spec.description;
        output.stages = StageTimes::default();
        output.sequences.clear();
        output.sequences.resize_with(batch.sequences.len(), SequenceOutput::default);
        let rows = self.weight(&embedding.rows.weight_name())?;
        let mut hidden: Rows = batch.tokens.iter().map(|token| rows.row(*token as usize)).collect();
        scale(&mut hidden, embedding.scale);
        for index in 0..spec.num_layers {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let LayerSpec { attention, feed_forward, residual_scale } = layer;
            let normed = self.normed(index, &hidden, &attention.norm_before)?;
            let rows = self.layer_rows(index, attention, batch.positions, &normed)?;
            let attended = self.attention.attend(index, batch, &rows, &mut output.sequences);
            let mut block = self.normed(index, &self.linear(index, &attention.output, &attended)?, &attention.norm_after)?;
            scale(&mut block, *residual_scale);
            add(&mut hidden, &block);

            let normed = self.normed(index, &hidden, &feed_forward.norm_before)?;
            let gate = self.linear(index, &feed_forward.gate, &normed)?;
            let up = self.linear(index, &feed_forward.up, &normed)?;
            let down = self.linear(index, &feed_forward.down, &gated(feed_forward.activation, &gate, &up))?;
            let mut block = self.normed(index, &down, &feed_forward.norm_after)?;
            scale(&mut block, *residual_scale);
            add(&mut hidden, &block);
        }
        let norm = self.weight(last.norm.name)?.row(0);
        let mut wanted: Rows = batch.output_rows.iter().map(|row| rms_norm(&hidden[*row], &norm, spec.rms_epsilon)).collect();
        scale(&mut wanted, last.scale);
        let bias = self.weights.find(&self.model, &last.product.bias_name());
        let logits = product(&wanted, &self.weight(&last.product.weight_name())?, bias.as_ref());
        output.logits.clear();
        output.logits.extend(logits.into_iter().flatten());
        Ok(())
    }

    /// Queries, keys and values of a layer: normed where the model norms them, and turned.
    fn layer_rows(&self, index: usize, attention: &AttentionSpec, positions: &[i32], normed: &Rows) -> Result<LayerRows> {
        let mut queries = self.linear(index, &attention.query, normed)?;
        let mut keys = self.linear(index, &attention.key, normed)?;
        let values = self.linear(index, &attention.value, normed)?;
        let head_dim = self.attention.shape.head_dim;
        if let Some(norms) = &attention.query_key_norms {
            for (rows, norm) in [(&mut queries, &norms.query), (&mut keys, &norms.key)] {
                let norm = self.weight(&layer_tensor(index, norm.name))?.row(0);
                for row in rows.iter_mut() {
                    let span = match norms.span {
                        NormSpan::Head => head_dim,
                        NormSpan::Row => row.len(),
                    };
                    for values in row.chunks_exact_mut(span) {
                        let normed = rms_norm(values, &norm, self.model.spec().rms_epsilon);
                        values.copy_from_slice(&normed);
                    }
                }
            }
        }
        if let Some(turn) = self.model.spec().turn(index) {
            let table = &self.rotary[turn as usize];
            for rows in [&mut queries, &mut keys] {
                for (row, position) in rows.iter_mut().zip(positions) {
                    row.chunks_exact_mut(head_dim).for_each(|head| self.turn(table, head, *position));
                }
            }
        }
        // Attention multiplies scores by 1 / sqrt(head_dim).
        scale(&mut queries, attention.score_scale.map_or(1.0, |scale| scale * (head_dim as f32).sqrt()));
        Ok(LayerRows { queries, keys, values })
    }

    /// Rotary embedding of one head, in place.
    fn turn(&self, table: &RotaryTable, head: &mut [f32], position: i32) {
        let half = table.num_pairs();
        let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
        table.write(position, &mut cos, &mut sin);
        for i in 0..half {
            let (a, b) = match self.model.spec().rope.pairing {
                RopePairing::Adjacent => (2 * i, 2 * i + 1),
                RopePairing::Halves => (i, i + half),
            };
            (head[a], head[b]) = (head[a] * cos[i] - head[b] * sin[i], head[a] * sin[i] + head[b] * cos[i]);
        }
    }

    fn weight(&self, name: &str) -> Result<Matrix<'_>> {
        self.weights.get(&self.model, name)
    }

    /// Rows behind a layer's norm, where there is one.
    fn normed(&self, index: usize, rows: &Rows, norm: &Option<VectorSpec>) -> Result<Rows> {
        let Some(norm) = norm else { return Ok(rows.clone()) };
        let norm = self.weight(&layer_tensor(index, norm.name))?.row(0);
        Ok(rows.iter().map(|row| rms_norm(row, &norm, self.model.spec().rms_epsilon)).collect())
    }

    /// Rows times a layer's matrix, plus its bias where there is one.
    fn linear(&self, index: usize, linear: &LinearSpec, rows: &Rows) -> Result<Rows> {
        let bias = self.weights.find(&self.model, &layer_tensor(index, &linear.bias_name()));
        Ok(product(rows, &self.weight(&layer_tensor(index, &linear.weight_name()))?, bias.as_ref()))
    }
}

impl HeadMaker for ReferenceExecutor {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> ctkvr_core::Result<Vec<HeadState>> {
        let Attention { shape, kernels } = self.attention;
        IndexBuilder { shape, kernels, num_threads: 1 }.make_heads(sequence, tasks, deadline, cancel)
    }
}

impl Executor for ReferenceExecutor {
    fn capabilities(&self) -> Capabilities {
        let shape: AttentionShape = self.attention.shape;
        Capabilities { shape, vocab_size: self.model.spec().vocab_size, max_rows: MAX_ROWS, num_threads: 1 }
    }

    fn arithmetic(&self) -> String {
        "reference".into()
    }

    fn kv_pool(&self) -> Arc<dyn KvPool> {
        Arc::<HostKvPool>::clone(&self.pool)
    }

    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(batch, output, cancel)));
        outcome.unwrap_or_else(|_| Err(Error::Internal { what: "a step panicked".into() }))
    }
}
