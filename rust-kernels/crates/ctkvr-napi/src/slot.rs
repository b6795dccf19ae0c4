//! A sequence as JavaScript sees it. Usually the engine is asked; between a change that was put off and its being made, what it will
//! be is remembered here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ctkvr_core::{SequenceId, SequenceMemory};
use ctkvr_engine::Engine;
use ctkvr_model::{AnswerRules, SamplerOptions};

use crate::engine_host::{Change, EngineHost};
use crate::error::{closed, internal, model_error};
use crate::options::Settings;

/// What can be read of a sequence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    pub len: usize,
    pub indexed_range: (usize, usize),
    pub num_recent_queries: usize,
    pub memory: SequenceMemory,
}

/// One sequence; shared with the engine's thread.
pub struct Slot {
    /// Unique in this process; names the slot where the engine has no id for it yet.
    pub key: u64,
    /// Set at once, or when a fork that was put off is made.
    id: OnceLock<SequenceId>,
    settings: Mutex<Settings>,
    ahead: Mutex<Ahead>,
    closed: AtomicBool,
}

/// What changes that were put off will make of the sequence.
#[derive(Default)]
struct Ahead {
    /// Changes not made yet.
    num_changes: usize,
    /// What the sequence will be after them.
    reading: Reading,
    /// A change that could not be made.
    failure: Option<String>,
}

impl Slot {
    /// A slot of a sequence that exists.
    pub fn of(id: SequenceId, settings: Settings) -> Arc<Self> {
        let slot = Self::without_id(settings);
        slot.id.get_or_init(|| id);
        slot
    }

    fn without_id(settings: Settings) -> Arc<Self> {
        static NEXT_KEY: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            id: OnceLock::new(),
            settings: Mutex::new(settings),
            ahead: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The engine's id, for an operation that is about to begin.
    pub fn id(&self) -> napi::Result<SequenceId> {
        self.check()?;
        self.id.get().copied().ok_or_else(|| internal("a sequence has no id although nothing runs"))
    }

    /// Length, indexed range and memory.
    pub fn read(&self, engine: &Engine) -> napi::Result<Reading> {
        self.check()?;
        let ahead = self.ahead();
        match self.id.get() {
            Some(id) if ahead.num_changes == 0 => read(engine, *id),
            _ => Ok(ahead.reading),
        }
    }

    /// Drops positions from `len` on.
    pub fn truncate(self: &Arc<Self>, host: &EngineHost, len: usize) -> napi::Result<()> {
        let before = self.read(&*host.engine()?)?;
        if len > before.len {
            let expected = format!("at most the sequence's {} tokens", before.len);
            return Err(crate::error::invalid_option("length", &expected, len));
        }
        let indexed_range = if before.indexed_range.1 > len { (0, 0) } else { before.indexed_range };
        // Of the dropped positions at most so many had theirs held.
        let num_recent_queries = before.num_recent_queries.saturating_sub(before.len - len);
        let after = Reading { len, indexed_range, num_recent_queries, ..before };
        self.change(host, "truncate", after, move |engine, id| engine.truncate(id, len))
    }

    /// Changes how keys are chosen.
    pub fn set_selector(self: &Arc<Self>, host: &EngineHost, settings: Settings) -> napi::Result<()> {
        let selector = &settings.selector;
        selector.check().map_err(crate::error::core_error)?;
        let before = self.read(&*host.engine()?)?;
        let keeps_index = self.settings().selector.same_build(selector);
        let indexed_range = if keeps_index { before.indexed_range } else { (0, 0) };
        let chosen = selector.clone();
        let after = Reading { indexed_range, ..before };
        self.change(host, "setSelector", after, move |engine, id| engine.set_selector(id, chosen))?;
        *lock(&self.settings) = settings;
        Ok(())
    }

    /// Replaces the sampler. Allowed at any time: the next draw uses it.
    pub fn set_sampler(self: &Arc<Self>, host: &EngineHost, sampler: SamplerOptions, rules: AnswerRules) -> napi::Result<()> {
        self.check()?;
        let set = move |engine: &Engine, id: SequenceId| {
            engine.set_bound_sampler(id, sampler, rules).map_err(|error| model_error(&error))
        };
        match self.id.get() {
            Some(id) => set(&*host.engine()?, *id),
            None => {
                let (slot, failed) = (Arc::clone(self), Arc::clone(self));
                let put_off = move |engine: &Engine| slot.id.get().map_or(Ok(()), |id| set(engine, *id));
                host.change("setSampler", self.key, put_off, move |error| failed.fail(error)).map(|_| ())
            }
        }
    }

    /// A second slot with what this one holds.
    pub fn fork(self: &Arc<Self>, host: &EngineHost) -> napi::Result<Arc<Self>> {
        let reading = self.read(&*host.engine()?)?;
        let fork = Self::without_id(self.settings());
        let (origin, made) = (Arc::clone(self), Arc::clone(&fork));
        fork.begin_ahead(reading);
        let failed = Arc::clone(&fork);
        let result = host.change(
            "fork",
            self.key,
            move |engine| {
                let origin = origin.id.get().copied().ok_or_else(|| internal("a sequence has no id although nothing runs"))?;
                let id = engine.fork_sequence(origin).map_err(|error| model_error(&error))?;
                made.id.get_or_init(|| id);
                made.end_ahead(None);
                Ok(())
            },
            move |error| failed.end_ahead(Some(error)),
        );
        result.map(|_| fork)
    }

    /// Releases the sequence. Idempotent; a running operation ends first.
    pub fn close(self: &Arc<Self>, host: &EngineHost) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        let slot = Arc::clone(self);
        let close = move |engine: &Engine| {
            slot.id.get().into_iter().for_each(|id| engine.close_sequence(*id));
            Ok(())
        };
        // Behind the running operation and what was put off: a fork of it may still have to be made. Refused by a closed model only,
        // whose sequences are gone with it.
        let _ = host.change_even_of_participant(close, |_| {});
    }

    fn change(
        self: &Arc<Self>,
        host: &EngineHost,
        operation: &'static str,
        after: Reading,
        change: impl FnOnce(&Engine, SequenceId) -> ctkvr_model::Result<()> + Send + 'static,
    ) -> napi::Result<()> {
        self.check()?;
        let (slot, failed) = (Arc::clone(self), Arc::clone(self));
        let before = self.begin_ahead(after);
        let result = host.change(
            operation,
            self.key,
            move |engine| {
                // A slot closed meanwhile needs no change.
                let result = match slot.closed.load(Ordering::Relaxed) {
                    true => Ok(()),
                    false => slot.id().and_then(|id| change(engine, id).map_err(|error| model_error(&error))),
                };
                if result.is_ok() {
                    slot.end_ahead(None);
                }
                result
            },
            move |error| failed.end_ahead(Some(error)),
        );
        match result {
            Ok(Change::Done | Change::PutOff) => Ok(()),
            Err(error) => {
                self.undo_ahead(before);
                Err(error)
            }
        }
    }

    fn check(&self) -> napi::Result<()> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(closed("sequence"));
        }
        match &self.ahead().failure {
            Some(failure) => Err(napi::Error::from_reason(failure.clone())),
            None => Ok(()),
        }
    }

    /// Notes a change that begins; returns what was noted before.
    fn begin_ahead(&self, reading: Reading) -> Reading {
        let mut ahead = self.ahead();
        ahead.num_changes += 1;
        std::mem::replace(&mut ahead.reading, reading)
    }

    fn end_ahead(&self, failure: Option<napi::Error>) {
        let mut ahead = self.ahead();
        ahead.num_changes -= 1;
        if let Some(error) = failure {
            ahead.failure = Some(error.reason.clone());
        }
    }

    fn fail(&self, error: napi::Error) {
        self.ahead().failure = Some(error.reason.clone());
    }

    fn undo_ahead(&self, before: Reading) {
        let mut ahead = self.ahead();
        ahead.num_changes -= 1;
        ahead.reading = before;
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        lock(&self.ahead)
    }

    /// As of the changes asked for.
    pub fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }
}

fn read(engine: &Engine, id: SequenceId) -> napi::Result<Reading> {
    let read = || -> ctkvr_model::Result<Reading> {
        let (len, indexed_range) = (engine.len(id)?, engine.indexed_range(id)?);
        Ok(Reading { len, indexed_range, num_recent_queries: engine.num_recent_queries(id)?, memory: engine.memory(id)? })
    };
    read().map_err(|error| model_error(&error))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
