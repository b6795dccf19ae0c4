//! The thread an engine runs on. Steps and index builds run there, one at a time; while one runs, the JavaScript thread never waits:
//! changes of sequences that take no part in it are put off until it has ended, in order, and changes of those that do are refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, Weak, mpsc};
use std::time::Duration;

use ctkvr_engine::Engine;
use napi::bindgen_prelude::ToNapiValue;

use crate::deferred::{Deferred, Refused, Resolver};
use crate::error::{busy, closed, internal, model_error, panic_text};

/// Time after which an operation that does not end is told to stop again.
const RETRY: Duration = Duration::from_millis(10);

/// Every engine that lives.
static HOSTS: Mutex<Vec<Weak<EngineHost>>> = Mutex::new(Vec::new());

extern "C" fn stop_all() {
    let stop = || lock(&HOSTS).iter().filter_map(Weak::upgrade).for_each(|host| host.shut_down());
    // Nothing is left to report a panic to.
    let _ = catch_unwind(AssertUnwindSafe(stop));
}

/// Work for the engine's thread.
pub type Job = Box<dyn FnOnce() + Send>;

/// An engine, its thread's mailbox, and what runs.
pub struct EngineHost {
    /// `None` after close.
    engine: Mutex<Option<Arc<Engine>>>,
    activity: Mutex<Activity>,
    /// Signalled when the running operation has ended.
    idle: Condvar,
    cancel: AtomicBool,
    jobs: mpsc::Sender<Job>,
}

#[derive(Default)]
struct Activity {
    /// Keys of the slots that take part in the running operation; `None` when nothing runs.
    running: Option<Vec<u64>>,
    /// Put off until it ends.
    put_off: Vec<Job>,
    /// After a panic the engine's state is unknown: nothing runs any more.
    broken: Option<String>,
}

/// What became of a change of a sequence.
pub enum Change {
    Done,
    /// It will be made when the running operation has ended.
    PutOff,
}

impl EngineHost {
    pub fn new(engine: Engine, jobs: mpsc::Sender<Job>) -> Self {
        Self {
            engine: Mutex::new(Some(Arc::new(engine))),
            activity: Mutex::default(),
            idle: Condvar::new(),
            cancel: AtomicBool::new(false),
            jobs,
        }
    }

    /// The engine, unless the model is closed.
    pub fn engine(&self) -> napi::Result<Arc<Engine>> {
        lock(&self.engine).clone().ok_or_else(|| closed("model"))
    }

    /// Runs `work` on the engine's thread and settles `deferred` with what `resolver` makes of its result.
    pub fn start<R: Send + 'static, T: ToNapiValue + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        participants: Vec<u64>,
        deferred: Deferred<T>,
        work: impl FnOnce(&Engine, &AtomicBool) -> ctkvr_model::Result<R> + Send + 'static,
        resolver: impl FnOnce(R) -> napi::Result<T> + Send + 'static,
    ) -> Result<(), Refused<T>> {
        let engine = match self.engine() {
            Ok(engine) => engine,
            Err(error) => return Err(Refused { deferred, error }),
        };
        {
            let mut activity = lock(&self.activity);
            if let Some(what) = &activity.broken {
                let error =
                    internal(format!("the engine stopped after an earlier failure ({what}); close the model and load it again"));
                return Err(Refused { deferred, error });
            }
            if activity.running.is_some() {
                return Err(Refused { deferred, error: busy(operation) });
            }
            activity.running = Some(participants);
        }
        self.cancel.store(false, Ordering::Relaxed);
        let host = Arc::clone(self);
        let job: Job = Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&engine, &host.cancel)));
            drop(engine);
            let outcome = outcome.map_err(|payload| panic_text(&*payload));
            host.finish(outcome.as_ref().err());
            match outcome {
                Ok(Ok(result)) => deferred.resolve(Box::new(move |_| resolver(result)) as Resolver<T>),
                Ok(Err(error)) => deferred.reject(model_error(&error)),
                Err(panic) => deferred.reject(internal(panic)),
            }
        });
        self.send(job);
        Ok(())
    }

    /// Makes `change` now, or after the running operation. Refused when that involves the slot of this key.
    pub fn change(
        &self,
        operation: &'static str,
        key: u64,
        change: impl FnOnce(&Engine) -> napi::Result<()> + Send + 'static,
        on_put_off_failure: impl FnOnce(napi::Error) + Send + 'static,
    ) -> napi::Result<Change> {
        if lock(&self.activity).running.as_ref().is_some_and(|participants| participants.contains(&key)) {
            return Err(busy(operation));
        }
        self.change_even_of_participant(change, on_put_off_failure)
    }

    /// Makes `change` now, or after the running operation.
    pub fn change_even_of_participant(
        &self,
        change: impl FnOnce(&Engine) -> napi::Result<()> + Send + 'static,
        on_put_off_failure: impl FnOnce(napi::Error) + Send + 'static,
    ) -> napi::Result<Change> {
        let engine = self.engine()?;
        let mut activity = lock(&self.activity);
        if activity.running.is_none() {
            // Nothing can begin meanwhile: operations begin under this lock.
            return change(&engine).map(|()| Change::Done);
        }
        activity.put_off.push(Box::new(move || {
            if let Err(error) = change(&engine) {
                on_put_off_failure(error);
            }
        }));
        Ok(Change::PutOff)
    }

    /// Makes the running operation stop soon.
    pub fn cancel(&self) {
        if lock(&self.activity).running.is_some() {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Lets go of the engine; `deferred` resolves when the running operation has ended and everything is freed. Idempotent.
    pub fn close(self: &Arc<Self>, deferred: Deferred<()>) {
        let engine = lock(&self.engine).take();
        let job: Job = Box::new(move || {
            drop(engine);
            deferred.resolve(Box::new(|_| Ok(())));
        });
        self.send(job);
    }

    /// Stops what runs when the process ends, and waits for it: exit handlers take ggml's tables down, under a step's feet. The environment's
    /// own hooks do not run when a program calls `process.exit`.
    pub fn stop_at_exit(self: &Arc<Self>) {
        static REGISTERED: Once = Once::new();
        let mut hosts = lock(&HOSTS);
        hosts.retain(|host| host.strong_count() > 0);
        hosts.push(Arc::downgrade(self));
        // After ggml's own handlers, which were registered when the model was loaded: the last one runs first.
        // SAFETY: the handler is a plain function that unwinds into nothing.
        REGISTERED.call_once(|| unsafe {
            libc::atexit(stop_all);
        });
    }

    /// Stops what runs and waits for it.
    pub fn shut_down(&self) {
        lock(&self.engine).take();
        let mut activity = lock(&self.activity);
        while activity.running.is_some() {
            self.cancel.store(true, Ordering::Relaxed);
            // The flag is cleared when an operation begins: one that has just begun is told again.
            activity = self.idle.wait_timeout(activity, RETRY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn send(&self, job: Job) {
        // The thread waits for jobs as long as this host, which owns the sender, lives.
        let sent = self.jobs.send(job);
        debug_assert!(sent.is_ok(), "the engine's thread outlives its host");
    }

    /// Makes what was put off, then lets the next operation begin.
    fn finish(&self, panic: Option<&String>) {
        let mut activity = lock(&self.activity);
        for change in std::mem::take(&mut activity.put_off) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(change)) {
                activity.broken = Some(panic_text(&*payload));
            }
        }
        if let Some(panic) = panic {
            activity.broken = Some(panic.clone());
        }
        activity.running = None;
        self.idle.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
