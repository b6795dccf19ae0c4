//! The engine's own record of its sequences: readable at any time, also while a step runs.

use std::collections::HashMap;

use ctkvr_core::{SelectorOptions, SequenceId, SequenceMemory};
use ctkvr_kernels::KvFormat;

use crate::error::{Error, Result};
use crate::sampler::Sampler;

/// One sequence.
#[derive(Debug)]
pub(crate) struct SequenceState {
    /// Its name in the backend; `None` until its first step, so that creating one never waits for a running step.
    pub backend: Option<SequenceId>,
    pub max_tokens: usize,
    pub kv_format: KvFormat,
    pub selector: SelectorOptions,
    /// Tokens whose keys and values are stored.
    pub tokens: Vec<i32>,
    pub sampler: Sampler,
    /// As of the end of the last operation.
    pub memory: SequenceMemory,
    /// As of the end of the last operation.
    pub indexed_range: (usize, usize),
    /// As of the end of the last operation.
    pub num_recent_queries: usize,
}

/// Sequences by the id the engine gave them.
#[derive(Debug, Default)]
pub(crate) struct SequenceTable {
    sequences: HashMap<SequenceId, SequenceState>,
    last_id: u64,
    /// Backend sequences whose owners closed them while the engine was busy.
    pub closed: Vec<SequenceId>,
}

impl SequenceTable {
    pub fn add(&mut self, state: SequenceState) -> SequenceId {
        self.last_id += 1;
        let id = SequenceId(self.last_id);
        self.sequences.insert(id, state);
        id
    }

    pub fn get(&self, id: SequenceId) -> Result<&SequenceState> {
        self.sequences.get(&id).ok_or(Error::UnknownSequence(id.0))
    }

    pub fn get_mut(&mut self, id: SequenceId) -> Result<&mut SequenceState> {
        self.sequences.get_mut(&id).ok_or(Error::UnknownSequence(id.0))
    }

    /// Forgets a sequence; what it holds in the backend is released by the next operation.
    pub fn close(&mut self, id: SequenceId) {
        self.closed.extend(self.sequences.remove(&id).and_then(|state| state.backend));
    }
}
