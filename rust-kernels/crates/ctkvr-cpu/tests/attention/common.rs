//! Texts as queries, keys and values, and the attention of steps over them, as an executor runs it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::kv::pool::{KvPool, PoolUsage};
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::sequence::lifecycle;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::sequence::stored_head::StoredHead;
use ctkvr_core::{
    AttentionShape, BuildReport, CentroidChoice, Error, Phase, SelectionCounters, SelectorOptions, SequenceId, SequenceMemory,
};
use ctkvr_cpu::attention::{ATTENTION_PHASES, AttentionMemory, AttentionStep, LayerIo};
use ctkvr_engine::{Batch, BatchOutput, NewRows};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat};
use ctkvr_threads::{Job, Team, Units};
use half::{bf16, f16};

/// Every method.
pub const METHODS: [&str; 8] = ["ctkvr", "full", "streaming", "exactTopK", "snapkv", "quest", "magicpig", "keyClusters"];

/// Rounded to what both bf16 and f16 hold, so that storing and products in bf16 lose nothing.
pub fn narrowed(x: f32) -> f32 {
    f16::from_f32(bf16::from_f32(x).to_f32()).to_f32()
}

/// Queries, keys and values of a text: layer, position, head. Queries drift slowly, as rotated queries of neighbours do.
pub struct Text {
    pub q: Vec<Vec<f32>>,
    pub k: Vec<Vec<f32>>,
    pub v: Vec<Vec<f32>>,
}

impl Text {
    pub fn new(shape: AttentionShape, seed: u64, len: usize) -> Self {
        let mut r = Random(seed);
        let (nq, nk) = (shape.num_q_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim);
        let mut make =
            |n: usize| (0..shape.num_layers).map(|_| (0..n).map(|_| narrowed(2.0 * r.unit())).collect()).collect::<Vec<Vec<f32>>>();
        let mut q = make(len * nq);
        for layer in &mut q {
            for i in nq..layer.len() {
                layer[i] = narrowed(0.9 * layer[i - nq] + 0.3 * layer[i]);
            }
        }
        Self { q, k: make(len * nk), v: make(len * nk) }
    }
}

/// Settings for texts of some hundred tokens.
pub fn options(kind: &'static str) -> Settings {
    Settings {
        method: kind,
        num_sink_tokens: 4,
        recent_window: 32,
        num_centroids: 24,
        centroids: CentroidChoice::Last,
        centroids_per_list: 1,
        append_size: 48,
        list_len: 64,
        num_probes: 3,
        max_selected: 32,
        tail: true,
        dense_below: 0,
        dense_layers: false,
        ..Settings::full()
    }
}

/// Sequences and their attention, without a model.
pub struct CpuAttention {
    shape: AttentionShape,
    kernels: &'static Kernels,
    memory: RefCell<AttentionMemory>,
    pool: Arc<HostKvPool>,
    sequences: RefCell<HashMap<SequenceId, Box<Sequence>>>,
    last_id: RefCell<u64>,
}

/// Rows of a step: which sequence's, what they hold, which positions, and what they are.
pub type TextRows<'a> = (SequenceId, &'a Text, Range<usize>, Phase);

impl CpuAttention {
    pub fn new(shape: AttentionShape, num_threads: usize) -> Result<Self, Error> {
        Self::with_isa(shape, num_threads, "")
    }

    pub fn with_isa(shape: AttentionShape, num_threads: usize, isa: &str) -> Result<Self, Error> {
        let kernels = Kernels::named(isa, shape.head_dim)?;
        let memory = RefCell::new(AttentionMemory::new(shape, kernels, num_threads)?);
        let pool = Arc::new(HostKvPool::new(shape.page_shape(), None));
        Ok(Self { shape, kernels, memory, pool, sequences: RefCell::default(), last_id: RefCell::default() })
    }

    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    pub fn set_kv_budget(&self, bytes: Option<usize>) {
        self.pool.set_budget(bytes);
    }

    pub fn pool_usage(&self) -> PoolUsage {
        self.pool.usage()
    }

    fn maker(&self, num_threads: usize) -> IndexBuilder {
        IndexBuilder { shape: self.shape, kernels: self.kernels, num_threads }
    }

    fn insert(&self, sequence: Sequence) -> SequenceId {
        *self.last_id.borrow_mut() += 1;
        let id = SequenceId(*self.last_id.borrow());
        self.sequences.borrow_mut().insert(id, Box::new(sequence));
        id
    }

    fn with<T>(&self, id: SequenceId, f: impl FnOnce(&mut Sequence) -> T) -> Result<T, Error> {
        self.sequences.borrow_mut().get_mut(&id).map(|sequence| f(sequence)).ok_or(Error::UnknownSequence(id.0))
    }

    pub fn create_sequence(&self, max_tokens: usize, format: KvFormat, selector: SelectorOptions) -> Result<SequenceId, Error> {
        selector.check()?;
        format.check(self.shape.head_dim)?;
        let pool: Arc<dyn KvPool> = Arc::<HostKvPool>::clone(&self.pool);
        Ok(self.insert(Sequence::new(self.shape, BlockTable::new(pool, format), max_tokens, selector)))
    }

    pub fn fork_sequence(&self, id: SequenceId) -> Result<SequenceId, Error> {
        let fork = self.with(id, |sequence| sequence.fork())?;
        Ok(self.insert(fork))
    }

    pub fn close_sequence(&self, id: SequenceId) {
        self.sequences.borrow_mut().remove(&id);
    }

    pub fn len(&self, id: SequenceId) -> Result<usize, Error> {
        self.with(id, |sequence| sequence.len)
    }

    pub fn truncate(&self, id: SequenceId, len: usize) -> Result<(), Error> {
        self.with(id, |sequence| sequence.truncate(len))
    }

    pub fn set_selector(&self, id: SequenceId, selector: SelectorOptions) -> Result<(), Error> {
        selector.check()?;
        self.with(id, |sequence| sequence.set_selector(selector))
    }

    pub fn indexed_range(&self, id: SequenceId) -> Result<(usize, usize), Error> {
        self.with(id, |sequence| sequence.index.as_ref().map_or((0, 0), |index| (index.start, index.end())))
    }

    pub fn num_recent_queries(&self, id: SequenceId) -> Result<usize, Error> {
        self.with(id, |sequence| sequence.recent.len())
    }

    pub fn memory(&self, id: SequenceId) -> Result<SequenceMemory, Error> {
        self.with(id, |sequence| sequence.memory())
    }

    pub fn stored_head(&self, id: SequenceId, layer: usize, kv_head: usize) -> Result<StoredHead, Error> {
        self.with(id, |sequence| self.maker(1).stored_head(sequence, layer, kv_head))?
    }

    pub fn build_index(&self, id: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<BuildReport, Error> {
        self.build_index_part(id, Duration::MAX, num_threads, cancel)
    }

    pub fn build_index_part(
        &self,
        id: SequenceId,
        most: Duration,
        num_threads: usize,
        cancel: &AtomicBool,
    ) -> Result<BuildReport, Error> {
        let deadline = Instant::now().checked_add(most);
        self.with(id, |sequence| {
            let heads_left = lifecycle::build(&self.maker(num_threads), sequence, deadline, cancel)?;
            let indexed_tokens = sequence.index.as_ref().map_or(0, |index| index.end() - index.start);
            let index_bytes = sequence.memory().index_bytes;
            Ok(BuildReport { heads_left, index_bytes, indexed_tokens, ..BuildReport::default() })
        })?
    }

    pub fn grow_index(&self, id: SequenceId, num_threads: usize, cancel: &AtomicBool) -> Result<(), Error> {
        self.with(id, |sequence| lifecycle::grow(&self.maker(num_threads), sequence, cancel))?
    }

    /// Runs `f` on a batch of these rows, those of decodes first; it keeps the batch or not. `f` also gets which of `rows` each of the batch's is.
    fn with_batch<T>(&self, rows: &[TextRows], f: impl FnOnce(Batch, &[usize]) -> Result<T, Error>) -> Result<T, Error> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| rows[*i].3 == Phase::Prefill);
        let mut taken: Vec<(SequenceId, Box<Sequence>)> = Vec::new();
        let mut outcome = Ok(());
        for &i in &order {
            match self.sequences.borrow_mut().remove(&rows[i].0) {
                Some(sequence) => taken.push((rows[i].0, sequence)),
                None => outcome = Err(Error::UnknownSequence(rows[i].0.0)),
            }
        }
        let outcome = outcome.and_then(|()| {
            let new = taken.iter_mut().zip(&order).map(|((_, sequence), &i)| NewRows {
                sequence,
                phase: rows[i].3,
                num_rows: rows[i].2.len(),
            });
            let num_rows = rows.iter().map(|(_, _, range, _)| range.len()).sum();
            // No layer looks at them here.
            let (tokens, positions) = (vec![0; num_rows], vec![0; num_rows]);
            f(Batch::open(&tokens, &positions, &[], new.collect())?, &order)
        });
        self.sequences.borrow_mut().extend(taken);
        outcome
    }

    /// A step that is opened and given up.
    pub fn aborted_step(&self, rows: &[TextRows]) -> Result<(), Error> {
        self.with_batch(rows, |batch, _| {
            drop(batch);
            Ok(())
        })
    }
}

/// The attention of one layer.
struct Layer<'a> {
    attention: &'a AttentionStep<'a>,
    layer: usize,
    io: LayerIo<'a>,
}

// SAFETY: the buffers outlive the job; units write disjoint parts.
unsafe impl Sync for Layer<'_> {}

impl Job for Layer<'_> {
    fn open(&self, phase: usize) -> Option<Units> {
        // SAFETY: the team opens phases in order, while nobody works.
        (phase < ATTENTION_PHASES).then(|| unsafe { self.attention.open(self.layer, phase) })
    }

    fn work(&self, phase: usize, units: Range<usize>, thread: usize) -> usize {
        // SAFETY: the phase is open, and the buffers are this layer's.
        unsafe { self.attention.work(self.layer, phase, &self.io, units, thread) }
    }
}

/// Outputs `[layer][row, q head, d]` and the rows' counters.
pub type StepOutput = (Vec<Vec<f32>>, Vec<Option<SelectionCounters>>);

/// Feeds rows to the attention like an executor does, and collects `[layer][row, q head, d]`.
pub fn step(attention: &CpuAttention, threads: usize, rows: &[TextRows], audit: bool) -> Result<StepOutput, Error> {
    let shape = attention.shape;
    let (nq, nk) = (shape.num_q_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim);
    let team = Team::new(threads).expect("threads");
    let mut output = BatchOutput::default();
    let (outputs, order) = attention.with_batch(rows, |mut batch, order| {
        batch.measures.audit = audit;
        let mut memory = attention.memory.borrow_mut();
        let running = AttentionStep::new(&mut memory, &batch);
        let mut outputs = Vec::new();
        for layer in 0..shape.num_layers {
            let join = |f: &dyn Fn(&Text) -> &[f32], n: usize| -> Vec<f32> {
                let of = |&i: &usize| (rows[i].1, rows[i].2.clone());
                order.iter().map(of).flat_map(|(text, range)| f(text)[range.start * n..range.end * n].iter().copied()).collect()
            };
            let q = join(&|t| &t.q[layer], nq);
            let (k, v) = (join(&|t| &t.k[layer], nk), join(&|t| &t.v[layer], nk));
            let mut out = vec![f32::NAN; q.len()];
            let io =
                LayerIo { queries: q.as_ptr(), keys: k.as_ptr(), values: v.as_ptr(), out: out.as_mut_ptr(), prepare: &|_, _| () };
            team.run(&Layer { attention: &running, layer, io }, &AtomicBool::new(false)).expect("no panic");
            outputs.push(in_order(&out, rows, order, nq));
        }
        running.finish(&mut output);
        batch.keep();
        Ok((outputs, order.to_vec()))
    })?;
    let mut counters = vec![None; rows.len()];
    for (i, of) in order.into_iter().zip(output.sequences) {
        counters[i] = of.counters;
        attention.with(rows[i].0, |sequence| lifecycle::learn(&attention.maker(threads), sequence, of.repairs))?;
    }
    Ok((outputs, counters))
}

/// A batch's output rows of `len` values in the order that the rows were given in.
fn in_order(out: &[f32], rows: &[TextRows], order: &[usize], len: usize) -> Vec<f32> {
    let mut pieces: Vec<&[f32]> = vec![&[]; rows.len()];
    let mut rest = out;
    for &i in order {
        let (piece, behind) = rest.split_at(rows[i].2.len() * len);
        (pieces[i], rest) = (piece, behind);
    }
    pieces.concat()
}
