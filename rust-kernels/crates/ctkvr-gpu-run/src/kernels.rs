//! Each kernel of a decode at the model's shapes: how long, and how near to what its bytes need at least.

use ctkvr_cuda::Graph;

use crate::Result;
use crate::batch::{Batch, Keys, Reads};
use crate::ceilings::read_gb_a_second;
use crate::heads::{MadeHead, SINKS, WINDOW, is_retrieval};
use crate::line::Line;
use crate::model::Model;
use crate::sequences::Sequence;
use crate::shape::Shape;
use crate::timing::Timer;

pub fn run(shape: &'static Shape) -> Result<()> {
    let device = crate::open()?;
    let gb_a_second = read_gb_a_second(&device, shape)?;
    let made = MadeHead::all(shape)?;
    let model = Model::new(&device, shape, 1)?;
    let most = shape.batches.iter().copied().max().unwrap_or(1);
    let sequences = Sequence::some(&device, shape, &made, most)?;
    let largest = shape.batches.iter().copied().filter(|n| *n <= sequences.len()).max();
    let Some(largest) = largest else { return Err("not even one sequence fits in the device's memory".into()) };
    let mut sizes = vec![1, largest];
    sizes.dedup();
    for n in sizes {
        let batch = Batch::new(&model, &made, &sequences[..n], Keys::OnDevice)?;
        let of = OfBatch { batch: &batch, made: &made, timer: Timer::new(&device)?, gb_a_second };
        of.rows()?;
        of.attention()?;
    }
    Ok(())
}

struct OfBatch<'a> {
    batch: &'a Batch<'a>,
    made: &'a [MadeHead],
    timer: Timer<'a>,
    gb_a_second: f64,
}

impl OfBatch<'_> {
    /// Milliseconds of what `work` launches for each layer, over all of them in one graph: their memory does not fit in a cache.
    fn ms(&self, layers: usize, work: impl Fn(usize) -> ctkvr_cuda::Result<()>) -> Result<f64> {
        let graph = self.graph(layers, work)?;
        Ok(self.timer.of_graphs(&[graph], self.batch.model.shape.rounds)?[0])
    }

    fn graph(&self, layers: usize, work: impl Fn(usize) -> ctkvr_cuda::Result<()>) -> Result<Graph> {
        Ok(self.batch.model.device.compute().capture(|| (0..layers).try_for_each(work))?)
    }

    /// `ms` and `bytes` are those of all launches; bytes of 0: they are not what bounds it.
    fn print(&self, kernel: &str, launches: usize, ms: f64, bytes: usize) -> Result<()> {
        let mut line = Line::of("kernels")
            .count("sequences", self.batch.rows.n)
            .text("kernel", kernel)
            .number("us", ms * 1e3 / launches as f64);
        if bytes > 0 {
            line = line
                .number("mb", bytes as f64 / 1e6 / launches as f64)
                .number("percent", 100.0 * bytes as f64 / 1e6 / self.gb_a_second / ms);
        }
        line.print()
    }

    /// What is not attention.
    fn rows(&self) -> Result<()> {
        let (model, rows) = (self.batch.model, &self.batch.rows);
        let layers = model.shape.layers;
        for (name, matrices) in model.matrices() {
            let activations = match name {
                "linear: output of attention" => &rows.attended_rounded,
                "linear: down" => &rows.gated,
                _ => &rows.normed,
            };
            let out = |n: usize| if n == model.shape.vocab { rows.logits.span() } else { rows.gate_and_up.span() };
            let ms =
                self.ms(matrices.len(), |i| model.multiply(rows, matrices[i], activations, out(matrices[i].n), matrices[i].n))?;
            self.print(name, matrices.len(), ms, matrices.iter().map(|matrix| matrix.num_bytes()).sum())?;
        }
        self.print("norm_round", layers, self.ms(layers, |_| model.norm(rows, true, rows.n))?, 0)?;
        self.print("rope_store", layers, self.ms(layers, |layer| model.rope_and_store(rows, layer))?, 0)?;
        self.print("silu_round", layers, self.ms(layers, |_| model.gate(rows))?, 0)
    }

    /// Attention over everything; then the stages of a search, each as the difference that it makes behind those before it, which it needs.
    fn attention(&self) -> Result<()> {
        let layers = self.batch.model.shape.layers;
        let dense = self.ms(layers, |layer| self.batch.attend_everything(layer))?;
        let (slots, context) = (layers * self.batch.rows.n * self.batch.model.shape.kv_heads, self.batch.model.shape.context);
        self.print("attend (everything)", layers, dense, 2 * slots * context * self.batch.row_bytes())?;
        let both = self.ms(layers, |layer| self.batch.attend(layer, Reads::Everything))?;
        self.print("merge (everything)", layers, both - dense, 0)?;
        let graphs = (1..=Batch::STAGES.len())
            .map(|count| self.graph(layers, |layer| (0..count).try_for_each(|stage| self.batch.stage(layer, stage))))
            .collect::<Result<Vec<_>>>()?;
        let times = self.timer.of_graphs(&graphs, self.batch.model.shape.rounds)?;
        let searched = self.batch.searched()?;
        let (row_bytes, always) = (self.batch.row_bytes(), slots * (SINKS + WINDOW));
        let mut before = 0.0;
        for (stage, ms) in Batch::STAGES.into_iter().zip(times) {
            let bytes = match stage {
                "probe" => self.index_bytes(|head| head.codes),
                "score_clusters" => self.index_bytes(|head| head.cluster_keys),
                "score" => searched.candidates * row_bytes,
                "attend (chosen)" => 2 * (always + searched.selected) * row_bytes,
                _ => 0,
            };
            self.print(stage, layers, ms - before, bytes)?;
            before = ms;
        }
        Ok(())
    }

    /// Bytes of a part of all indexes that are searched by centroids.
    fn index_bytes(&self, part: fn(&IndexParts) -> usize) -> usize {
        let heads = (0..self.batch.model.shape.heads()).filter(|head| !is_retrieval(*head));
        let of_sequence: usize = heads.map(|head| part(&IndexParts::of(&self.made[head % self.made.len()]))).sum();
        of_sequence * self.batch.rows.n
    }
}

/// Bytes of what two of the stages read whole.
struct IndexParts {
    codes: usize,
    cluster_keys: usize,
}

impl IndexParts {
    fn of(head: &MadeHead) -> Self {
        let index = &head.indexed.index;
        let codes = index.active().iter().map(|s| s.pooled.codes.len() + size_of_val(&s.pooled.scales[..])).sum();
        let keys =
            index.tail().map_or(&[][..], |tail| tail.segments()).iter().map(|s| s.num_clusters() * s.means().row_bytes()).sum();
        Self { codes, cluster_keys: keys }
    }
}
