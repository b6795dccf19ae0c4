//! Runs the chunks of steps on a team of threads.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_cpu::{AttentionBackend, Stopped, Team};

use crate::error::{Error, Result};
use crate::machine::MAX_THREADS;
use crate::model::Model;
use crate::plan::Plan;
use crate::step_buffers::{StepBuffers, StepScratch};
use crate::step_job::StepJob;
use crate::step_plan::Chunk;

/// One chunk at a time.
pub(crate) struct Executor {
    team: Team,
    plan: Plan,
    buffers: StepBuffers,
    /// One for each thread, then one for who opens a phase.
    scratch: Vec<UnsafeCell<StepScratch>>,
    // Behind the plan, which refers to its weights.
    model: Arc<Model>,
}

// SAFETY: the scratch is reached through jobs only, which run under `&mut self`.
unsafe impl Sync for Executor {}

impl Executor {
    /// Starts the threads.
    pub fn new(model: Arc<Model>, num_threads: usize) -> Result<Self> {
        if !(1..=MAX_THREADS).contains(&num_threads) {
            return Err(Error::InvalidOption {
                option: "numThreads".into(),
                expected: format!("from 1 to {MAX_THREADS}"),
                actual: num_threads.to_string(),
            });
        }
        let plan = Plan::new(&model)?;
        let started = Team::new(num_threads);
        let team =
            started.map_err(|error| Error::Internal { what: format!("{num_threads} threads could not be started: {error}") })?;
        let scratch = (0..=num_threads).map(|_| UnsafeCell::new(StepScratch::new(&plan))).collect();
        Ok(Self { team, plan, buffers: StepBuffers::default(), scratch, model })
    }

    /// Runs one chunk through the layers; a step over its rows is open in the backend. `cancel` is looked at between phases.
    pub fn run(&mut self, backend: &dyn AttentionBackend, chunk: &Chunk, cancel: &AtomicBool) -> Result<()> {
        let spec = self.model.spec();
        self.buffers.reserve(spec, &self.plan, chunk.tokens.len(), chunk.output_rows.len())?;
        let job = StepJob::new(&self.plan, spec, backend, chunk, &mut self.buffers, &mut self.scratch);
        self.team.run(&job, cancel).map_err(|stopped| match stopped {
            Stopped::Cancelled => Error::Cancelled,
            Stopped::Panicked(panic) => Error::Internal { what: format!("a step panicked: {}", message(&*panic)) },
        })
    }

    /// Logits of the last chunk's output `index`: f32 `[vocab_size]`.
    pub fn logits(&self, index: usize) -> &[f32] {
        let len = self.model.spec().vocab_size;
        &self.buffers.logits[index * len..(index + 1) * len]
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
