//! A model of random weights, its layers launched as ctkvr-cuda's step launches them.

use ctkvr_cuda::launch::argmax::Argmax;
use ctkvr_cuda::launch::linear::Linear;
use ctkvr_cuda::launch::norm_round::NormRound;
use ctkvr_cuda::launch::outputs::Outputs;
use ctkvr_cuda::launch::rope_store::RopeStore;
use ctkvr_cuda::launch::silu_round::SiluRound;
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};
use ctkvr_model::RopePairing;

use crate::Result;
use crate::q4::Q4;
use crate::rows::Rows;
use crate::shape::Shape;

/// How all keys and values are stored.
pub fn page_layout(shape: &Shape) -> PageLayout {
    PageLayout { head_dim: shape.head_dim, format: KvFormat::F16 }
}

struct Layer {
    /// Query, key and value: of one type, so one product.
    projections: Q4,
    output: Q4,
    gate_and_up: Q4,
    down: Q4,
}

impl Layer {
    fn matrices(&self) -> [&Q4; 4] {
        [&self.projections, &self.output, &self.gate_and_up, &self.down]
    }
}

pub struct Model<'a> {
    pub device: &'a Device,
    pub shape: &'static Shape,
    layers: Vec<Layer>,
    output: Q4,
    /// Of every norm.
    norm: DeviceBuffer<f32>,
}

impl<'a> Model<'a> {
    pub fn new(device: &'a Device, shape: &'static Shape, seed: u64) -> Result<Self> {
        let mut random = Random(seed);
        let (width, q, kv, hidden) = (shape.width, shape.q_len(), shape.kv_len(), shape.hidden);
        let mut layers = Vec::new();
        for _ in 0..shape.layers {
            let mut matrix = |n, k| Q4::new(device, [n, k], &mut random);
            layers.push(Layer {
                projections: matrix(q + 2 * kv, width)?,
                output: matrix(width, q)?,
                gate_and_up: matrix(2 * hidden, width)?,
                down: matrix(width, hidden)?,
            });
        }
        let output = Q4::new(device, [shape.vocab, width], &mut random)?;
        let norm = DeviceBuffer::from_slice(device, &vec![1.0; width])?;
        Ok(Self { device, shape, layers, output, norm })
    }

    /// Bytes of weights that a step reads.
    pub fn num_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().flat_map(Layer::matrices).map(Q4::num_bytes).sum();
        layers + self.output.num_bytes()
    }

    /// A matrix of each kind, by name.
    pub fn matrices(&self) -> [(&'static str, Vec<&Q4>); 5] {
        let all = |of: fn(&Layer) -> &Q4| self.layers.iter().map(of).collect::<Vec<_>>();
        [
            ("linear: query, key, value", all(|layer| &layer.projections)),
            ("linear: output of attention", all(|layer| &layer.output)),
            ("linear: gate and up", all(|layer| &layer.gate_and_up)),
            ("linear: down", all(|layer| &layer.down)),
            ("linear: vocabulary", vec![&self.output]),
        ]
    }

    /// All layers and the choice of a token for `rows`; `attend(layer)` writes `rows.attended`.
    pub fn forward(&self, rows: &Rows, attend: impl Fn(usize) -> ctkvr_cuda::Result<()>) -> ctkvr_cuda::Result<()> {
        for layer in 0..self.shape.layers {
            self.before_attention(rows, layer)?;
            attend(layer)?;
            self.behind_attention(rows, layer)?;
        }
        self.choose(rows)
    }

    /// Queries, keys and values of a layer.
    pub fn before_attention(&self, rows: &Rows, index: usize) -> ctkvr_cuda::Result<()> {
        let layer = &self.layers[index];
        self.norm(rows, index > 0, rows.n)?;
        self.multiply(rows, &layer.projections, &rows.normed, rows.projected.span(), layer.projections.n)?;
        self.rope_and_store(rows, index)
    }

    /// What follows `rows.attended` in a layer.
    pub fn behind_attention(&self, rows: &Rows, index: usize) -> ctkvr_cuda::Result<()> {
        let (layer, width, hidden) = (&self.layers[index], self.shape.width, self.shape.hidden);
        self.round(rows)?;
        self.multiply(rows, &layer.output, &rows.attended_rounded, rows.block.span(), width)?;
        self.norm(rows, true, rows.n)?;
        self.multiply(rows, &layer.gate_and_up, &rows.normed, rows.gate_and_up.span(), 2 * hidden)?;
        self.gate(rows)?;
        self.multiply(rows, &layer.down, &rows.gated, rows.block.span(), width)
    }

    /// hidden += block, where there is one; then the norm of the first `count` rows, rounded.
    pub fn norm(&self, rows: &Rows, has_block: bool, count: usize) -> ctkvr_cuda::Result<()> {
        let width = self.shape.width;
        let norm = NormRound {
            hidden: rows.hidden.span(),
            hidden_stride: width,
            row_of: Span::EMPTY,
            block: if has_block { rows.block.span() } else { Span::EMPTY },
            block_stride: width,
            block_scale: 1.0,
            weight: self.norm.span(),
            epsilon: 1e-5,
            factor: 1.0,
            out: Outputs { rounded: rows.activations(&rows.normed, count), ..Outputs::NONE },
            rows: count,
            width,
        };
        norm.launch(self.device, self.device.compute())
    }

    /// What attention gave, rounded as it is.
    fn round(&self, rows: &Rows) -> ctkvr_cuda::Result<()> {
        let width = self.shape.q_len();
        let round = NormRound {
            hidden: rows.attended.span(),
            hidden_stride: width,
            row_of: Span::EMPTY,
            block: Span::EMPTY,
            block_stride: width,
            block_scale: 0.0,
            weight: Span::EMPTY,
            epsilon: 0.0,
            factor: 1.0,
            out: Outputs { rounded: rows.attended_rounded.span(), ..Outputs::NONE },
            rows: rows.n,
            width,
        };
        round.launch(self.device, self.device.compute())
    }

    /// All rows times a matrix.
    pub fn multiply(
        &self,
        rows: &Rows,
        matrix: &Q4,
        activations: &DeviceBuffer<u8>,
        out: Span<f32>,
        out_stride: usize,
    ) -> ctkvr_cuda::Result<()> {
        let (weights, activations) = (matrix.strips(), activations.span());
        let linear = Linear { weights, bias: Span::EMPTY, activations, out, out_stride, rows: rows.n };
        linear.launch(self.device, self.device.compute())
    }

    pub fn rope_and_store(&self, rows: &Rows, layer: usize) -> ctkvr_cuda::Result<()> {
        let shape = self.shape;
        let (q, kv, projected) = (shape.q_len(), shape.kv_len(), rows.projected.span());
        let store = RopeStore {
            queries: projected,
            keys: projected.part(q..projected.len()),
            values: projected.part(q + kv..projected.len()),
            stride: q + 2 * kv,
            turned: rows.queries.span(),
            cos: rows.cos.span(),
            sin: rows.sin.span(),
            places: rows.places.span(),
            recent: Span::EMPTY,
            layout: page_layout(shape),
            first_head: layer * shape.kv_heads,
            num_q_heads: shape.kv_heads * shape.group,
            num_kv_heads: shape.kv_heads,
            num_pairs: shape.head_dim / 2,
            pairing: RopePairing::Halves,
            query_factor: 1.0,
        };
        store.launch(self.device, self.device.compute())
    }

    pub fn gate(&self, rows: &Rows) -> ctkvr_cuda::Result<()> {
        let (width, both) = (self.shape.hidden, rows.gate_and_up.span());
        let out = Outputs { rounded: rows.gated.span(), ..Outputs::NONE };
        let silu = SiluRound { gate: both, up: both.part(width..both.len()), stride: 2 * width, out, rows: rows.n, width };
        silu.launch(self.device, self.device.compute())
    }

    /// Logits of the rows that want some, and their largest.
    pub fn choose(&self, rows: &Rows) -> ctkvr_cuda::Result<()> {
        let (vocab, count, stream) = (self.shape.vocab, rows.num_outputs, self.device.compute());
        self.norm(rows, true, count)?;
        let linear = Linear {
            weights: self.output.strips(),
            bias: Span::EMPTY,
            activations: rows.activations(&rows.normed, count),
            out: rows.logits.span(),
            out_stride: vocab,
            rows: count,
        };
        linear.launch(self.device, stream)?;
        let (logits, best, ids) = (rows.logits.span(), rows.best.span(), rows.ids.span());
        Argmax { logits, stride: vocab, best, ids, rows: count, vocab }.launch(self.device, stream)
    }
}
