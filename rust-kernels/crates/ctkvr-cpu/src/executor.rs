//! The CPU's executor: steps as jobs of a team of threads, over weights in the order that this CPU multiplies fastest.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::retriever::HeadState;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::sequence::lifecycle::{HeadMaker, HeadTask};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_engine::{Batch, BatchOutput, Capabilities, Error, Executor, Result};
use ctkvr_kernels::{Kernels, PackedKernels};
use ctkvr_model::{MAX_THREADS, Model, num_usable_threads};
use ctkvr_threads::{Stopped, Team};

use crate::attention::{AttentionMemory, AttentionStep};
use crate::plan::Plan;
use crate::step_buffers::{StepBuffers, StepScratch};
use crate::step_job::{StepJob, StepParts};
use crate::weights::{Loading, Placing, Weights};

/// Most rows of one batch.
const MAX_ROWS: usize = 1 << 14;

/// How the CPU computes.
#[derive(Clone, Copy)]
pub struct CpuOptions {
    /// 0 = all that this process may use.
    pub num_threads: usize,
    /// Use the weights in place, from the file's mapping, which processes share; otherwise they are copied into huge pages, from which a step
    /// reads them faster.
    pub map_weights: bool,
    /// Of everything that a step does but attention.
    pub kernels: &'static Kernels,
    /// Kernels of products with weights in blocks of 32, which are then kept in those kernels' own order; `None` = ggml's products alone.
    pub packed: Option<&'static PackedKernels>,
    /// Of attention, and of making indexes; `None` = the fastest of this machine that fit the model's heads.
    pub attention_kernels: Option<&'static Kernels>,
    /// The most bytes that keys and values of all sequences may take; `None` = as many as the machine has. A step that needs more is refused
    /// with `OutOfMemory`.
    pub kv_budget_bytes: Option<usize>,
}

impl CpuOptions {
    /// With these kernels, but for attention, which takes the fastest.
    pub fn with(kernels: &'static Kernels) -> Self {
        Self { num_threads: 0, map_weights: false, kernels, packed: kernels.packed, attention_kernels: None, kv_budget_bytes: None }
    }
}

impl Default for CpuOptions {
    /// The fastest kernels of this CPU on all threads.
    fn default() -> Self {
        let available = Kernels::available();
        Self::with(available[available.len() - 1])
    }
}

/// Computes steps on the CPU; one at a time.
pub struct CpuExecutor {
    team: Team,
    plan: Plan,
    buffers: StepBuffers,
    attention: AttentionMemory,
    /// Pages of all sequences.
    pool: Arc<HostKvPool>,
    /// See [`Executor::arithmetic`].
    arithmetic: String,
    /// One for each thread, then one for who opens a phase.
    scratch: Vec<UnsafeCell<StepScratch>>,
    // Behind the plan, which refers to them; they refer to the model's file.
    weights: Weights,
    model: Arc<Model>,
}

// SAFETY: the scratch is reached through jobs only, which run under `&mut self`.
unsafe impl Sync for CpuExecutor {}

impl CpuExecutor {
    /// Places the model's weights and starts the threads.
    ///
    /// # Errors
    /// `InvalidOption` (number of threads, kernels that do not fit the model's heads), `Cancelled`, `FileUnreadable`, `NoComputeBackend`,
    /// `Internal`.
    pub fn load(model: Arc<Model>, options: CpuOptions, loading: Loading) -> Result<Self> {
        let num_threads = if options.num_threads == 0 { num_usable_threads() } else { options.num_threads };
        if !(1..=MAX_THREADS).contains(&num_threads) {
            return Err(Error::InvalidOption {
                option: "numThreads".into(),
                expected: format!("from 1 to {MAX_THREADS}"),
                actual: num_threads.to_string(),
            });
        }
        let shape = model.spec().attention_shape();
        let attention_kernels = match options.attention_kernels {
            Some(kernels) => Kernels::named(kernels.name, shape.head_dim)?,
            None => Kernels::for_head_dim(shape.head_dim)?,
        };
        let attention = AttentionMemory::new(shape, attention_kernels, num_threads)?;
        let pool = Arc::new(HostKvPool::new(shape.page_shape(), options.kv_budget_bytes));
        let placing = Placing { map_weights: options.map_weights, packed: options.packed };
        let weights = Weights::place(&model, placing, loading)?;
        let plan = Plan::new(&model, &weights, options.kernels)?;
        let started = Team::new(num_threads);
        let team =
            started.map_err(|error| Error::Internal { what: format!("{num_threads} threads could not be started: {error}") })?;
        let scratch = (0..=num_threads).map(|_| UnsafeCell::new(StepScratch::new(&plan))).collect();
        let products = if options.packed.is_some() { "packed" } else { "of ggml" };
        let arithmetic = format!("cpu: {}, products {products}, attention {}", options.kernels.name, attention_kernels.name);
        Ok(Self { team, plan, buffers: StepBuffers::default(), attention, pool, arithmetic, scratch, weights, model })
    }

    /// Bytes of weights kept outside the file's mapping.
    pub fn copied_bytes(&self) -> u64 {
        self.weights.copied_bytes()
    }

    /// The kernels that attention uses.
    pub fn attention_kernels(&self) -> &'static Kernels {
        self.attention.kernels()
    }
}

impl HeadMaker for CpuExecutor {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> ctkvr_core::Result<Vec<HeadState>> {
        let (shape, kernels, num_threads) = (self.attention.shape(), self.attention.kernels(), self.team.num_threads());
        IndexBuilder { shape, kernels, num_threads }.make_heads(sequence, tasks, deadline, cancel)
    }
}

impl Executor for CpuExecutor {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            shape: self.attention.shape(),
            vocab_size: self.model.spec().vocab_size,
            max_rows: MAX_ROWS,
            num_threads: self.team.num_threads(),
        }
    }

    fn arithmetic(&self) -> String {
        self.arithmetic.clone()
    }

    fn kv_pool(&self) -> Arc<dyn KvPool> {
        Arc::<HostKvPool>::clone(&self.pool)
    }

    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let (batch, spec) = (&*batch, self.model.spec());
        output.reserve_logits(batch.output_rows.len() * spec.vocab_size)?;
        self.buffers.reserve(spec, &self.plan, batch.num_rows())?;
        let attention = AttentionStep::new(&mut self.attention, batch);
        let job = StepJob::new(StepParts {
            plan: &self.plan,
            spec,
            attention: &attention,
            batch,
            buffers: &mut self.buffers,
            scratch: &mut self.scratch,
            logits: &mut output.logits,
        });
        self.team.run(&job, cancel).map_err(|stopped| match stopped {
            Stopped::Cancelled => Error::Cancelled,
            Stopped::Panicked(panic) => Error::Internal { what: format!("a step panicked: {}", message(&*panic)) },
        })?;
        attention.finish(output);
        Ok(())
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
