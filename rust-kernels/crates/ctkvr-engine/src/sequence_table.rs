//! An engine's sequences: readable at any time, also while a step has them on loan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{AttentionShape, SelectorOptions, SequenceId, SequenceMemory};
use ctkvr_kernels::KvFormat;
use ctkvr_model::Sampler;

use crate::{Error, Result};

/// One sequence.
pub(crate) struct Entry {
    pub max_tokens: usize,
    /// Tokens whose keys and values are stored; while an operation runs, as before it.
    pub tokens: Vec<i32>,
    pub sampler: Sampler,
    pub place: Place,
}

/// Where an entry's state is.
pub(crate) enum Place {
    /// Nothing was stored yet: to make one costs nothing, and nobody waits for it.
    New(NewSequence),
    Here(Box<Sequence>),
    /// With the operation that runs. What it was before that.
    Lent(Figures),
}

/// What a sequence begins with.
#[derive(Clone)]
pub(crate) struct NewSequence {
    pub shape: AttentionShape,
    pub pool: Arc<dyn KvPool>,
    pub max_tokens: usize,
    pub kv_format: KvFormat,
    pub selector: SelectorOptions,
}

/// What can be read of a sequence's state.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub memory: SequenceMemory,
    /// `[first, end)` covered by the index; `(0, 0)` when there is none.
    pub indexed_range: (usize, usize),
    /// Queries held that a build would make centroids of.
    pub num_recent_queries: usize,
}

impl NewSequence {
    fn make(&self) -> Box<Sequence> {
        let kv = BlockTable::new(Arc::clone(&self.pool), self.kv_format);
        Box::new(Sequence::new(self.shape, kv, self.max_tokens, self.selector.clone()))
    }
}

impl Figures {
    fn of(sequence: &Sequence) -> Self {
        Self {
            memory: sequence.memory(),
            indexed_range: sequence.index.as_ref().map_or((0, 0), |index| (index.start, index.end())),
            num_recent_queries: sequence.recent.len(),
        }
    }
}

impl Entry {
    pub fn figures(&self) -> Figures {
        match &self.place {
            Place::New(_) => Figures::default(),
            Place::Here(sequence) => Figures::of(sequence),
            Place::Lent(figures) => *figures,
        }
    }

    /// A second one with the same content; of none that is lent.
    pub fn fork(&self) -> Option<Self> {
        let place = match &self.place {
            Place::New(new) => Place::New(new.clone()),
            Place::Here(sequence) => Place::Here(Box::new(sequence.fork())),
            Place::Lent(_) => return None,
        };
        Some(Self { max_tokens: self.max_tokens, tokens: self.tokens.clone(), sampler: self.sampler.fork(), place })
    }

    fn lend(&mut self) -> Option<Box<Sequence>> {
        let figures = self.figures();
        match std::mem::replace(&mut self.place, Place::Lent(figures)) {
            Place::New(new) => Some(new.make()),
            Place::Here(sequence) => Some(sequence),
            Place::Lent(_) => None,
        }
    }
}

/// Sequences by the id that the engine gave them.
#[derive(Default)]
pub(crate) struct SequenceTable {
    entries: HashMap<SequenceId, Entry>,
    last_id: u64,
}

impl SequenceTable {
    pub fn add(&mut self, entry: Entry) -> SequenceId {
        self.last_id += 1;
        let id = SequenceId(self.last_id);
        self.entries.insert(id, entry);
        id
    }

    pub fn get(&self, id: SequenceId) -> Result<&Entry> {
        self.entries.get(&id).ok_or(Error::UnknownSequence(id.0))
    }

    pub fn get_mut(&mut self, id: SequenceId) -> Result<&mut Entry> {
        self.entries.get_mut(&id).ok_or(Error::UnknownSequence(id.0))
    }

    /// Forgets a sequence. One that is lent is freed when its operation ends.
    pub fn close(&mut self, id: SequenceId) -> Option<Entry> {
        self.entries.remove(&id)
    }
}

/// The table, for a moment.
pub(crate) fn lock(table: &Mutex<SequenceTable>) -> MutexGuard<'_, SequenceTable> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sequences that one operation has. They go back when it ends, however that comes about, and but for [`Loan::keep`] as long as they were.
pub(crate) struct Loan<'a> {
    table: &'a Mutex<SequenceTable>,
    pub sequences: Vec<Lent>,
}

/// One of them.
pub(crate) struct Lent {
    id: SequenceId,
    /// When it was lent.
    pub len: usize,
    pub sequence: Box<Sequence>,
}

impl<'a> Loan<'a> {
    /// Takes sequences out.
    ///
    /// # Errors
    /// `UnknownSequence`; those taken before are back.
    pub fn take(table: &'a Mutex<SequenceTable>, ids: impl Iterator<Item = SequenceId>) -> Result<Self> {
        let mut loan = Self { table, sequences: Vec::new() };
        for id in ids {
            let sequence = lock(table).get_mut(id)?.lend().ok_or(Error::UnknownSequence(id.0))?;
            loan.sequences.push(Lent { id, len: sequence.len, sequence });
        }
        Ok(loan)
    }

    /// Gives the sequences back with what was appended to each.
    pub fn keep<'t>(mut self, appended: impl Iterator<Item = &'t [i32]>) {
        let mut table = lock(self.table);
        for (lent, tokens) in self.sequences.drain(..).zip(appended) {
            debug_assert_eq!(lent.sequence.len, lent.len + tokens.len());
            // Of one that was closed meanwhile nobody asks any more.
            if let Ok(entry) = table.get_mut(lent.id) {
                entry.tokens.extend_from_slice(tokens);
                entry.place = Place::Here(lent.sequence);
            }
        }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        for Lent { id, len, mut sequence } in self.sequences.drain(..) {
            sequence.truncate(len);
            if let Ok(entry) = lock(self.table).get_mut(id) {
                entry.place = Place::Here(sequence);
            }
        }
    }
}
