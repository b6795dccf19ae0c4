//! A step from its tokens to its logits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::sequence::lifecycle::{HeadMaker, HeadTask};
use ctkvr_core::sequence::store::{HeadState, Sequence};
use ctkvr_core::{AttentionShape, StageTimes};
use ctkvr_engine::{Batch, BatchOutput, Capabilities, Error, Executor, Result, SequenceOutput};
use ctkvr_kernels::Kernels;
use ctkvr_model::{Model, OUTPUT_WEIGHT, RopePairing, RopeTurns, layer_tensor};

use crate::attention::{Attention, LayerRows};
use crate::layers::{Rows, add, gated, product, rms_norm};
use crate::weights::{Matrix, Weights};

const MAX_ROWS: usize = 1 << 14;

/// Computes steps in plain loops.
pub struct ReferenceExecutor {
    model: Arc<Model>,
    weights: Weights,
    turns: RopeTurns,
    attention: Attention,
}

impl ReferenceExecutor {
    /// For a model whose weights stay in its file.
    ///
    /// # Errors
    /// None that a checked model gives.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let (spec, weights) = (model.spec(), Weights::of(&model));
        let shape = spec.attention_shape();
        let factors = weights.find(&model, "rope_freqs.weight").map(|factors| factors.row(0));
        let turns = RopeTurns::new(&spec.rope, spec.head_dim, factors.as_deref());
        let kernels = Kernels::named("scalar", shape.head_dim)?;
        Ok(Self { weights, turns, attention: Attention { shape, kernels }, model })
    }

    fn run(&self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let spec = self.model.spec();
        output.stages = StageTimes::default();
        output.sequences.clear();
        output.sequences.resize_with(batch.sequences.len(), SequenceOutput::default);
        let embedding = self.weight("token_embd.weight")?;
        let mut hidden: Rows = batch.tokens.iter().map(|token| embedding.row(*token as usize)).collect();
        for layer in 0..spec.num_layers {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let normed = self.normed(&hidden, &layer_tensor(layer, "attn_norm.weight"))?;
            let rows = self.layer_rows(layer, batch.positions, &normed)?;
            let attended = self.attention.attend(layer, batch, &rows, &mut output.sequences);
            add(&mut hidden, &self.linear(layer, "attn_output", &attended)?);
            let normed = self.normed(&hidden, &layer_tensor(layer, "ffn_norm.weight"))?;
            let gate = self.linear(layer, "ffn_gate", &normed)?;
            let up = self.linear(layer, "ffn_up", &normed)?;
            add(&mut hidden, &self.linear(layer, "ffn_down", &gated(&gate, &up))?);
        }
        let wanted: Rows = batch.output_rows.iter().map(|row| hidden[*row].clone()).collect();
        let last = self.normed(&wanted, "output_norm.weight")?;
        let logits = product(&last, &self.weight(OUTPUT_WEIGHT)?, self.weights.find(&self.model, "output.bias").as_ref());
        output.logits.clear();
        output.logits.extend(logits.into_iter().flatten());
        Ok(())
    }

    /// Queries, keys and values of a layer: normed where the model norms heads, and turned.
    fn layer_rows(&self, layer: usize, positions: &[i32], normed: &Rows) -> Result<LayerRows> {
        let mut queries = self.linear(layer, "attn_q", normed)?;
        let mut keys = self.linear(layer, "attn_k", normed)?;
        let values = self.linear(layer, "attn_v", normed)?;
        for (rows, norm) in [(&mut queries, "attn_q_norm.weight"), (&mut keys, "attn_k_norm.weight")] {
            let norm = self.weights.find(&self.model, &layer_tensor(layer, norm)).map(|norm| norm.row(0));
            for (row, position) in rows.iter_mut().zip(positions) {
                for head in row.chunks_exact_mut(self.attention.shape.head_dim) {
                    if let Some(norm) = &norm {
                        let normed = rms_norm(head, norm, self.model.spec().rms_epsilon);
                        head.copy_from_slice(&normed);
                    }
                    self.turn(head, *position);
                }
            }
        }
        Ok(LayerRows { queries, keys, values })
    }

    /// Rotary embedding of one head, in place.
    fn turn(&self, head: &mut [f32], position: i32) {
        let half = self.turns.len();
        let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
        self.turns.write(position, &mut cos, &mut sin);
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

    fn normed(&self, rows: &Rows, norm: &str) -> Result<Rows> {
        let norm = self.weight(norm)?.row(0);
        Ok(rows.iter().map(|row| rms_norm(row, &norm, self.model.spec().rms_epsilon)).collect())
    }

    /// A layer's matrix of that name, and its bias where there is one.
    fn linear(&self, layer: usize, name: &str, rows: &Rows) -> Result<Rows> {
        let named = |what: &str| layer_tensor(layer, &format!("{name}.{what}"));
        let bias = self.weights.find(&self.model, &named("bias"));
        Ok(product(rows, &self.weight(&named("weight"))?, bias.as_ref()))
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

    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run(batch, output, cancel)));
        outcome.unwrap_or_else(|_| Err(Error::Internal { what: "a step panicked".into() }))
    }
}
