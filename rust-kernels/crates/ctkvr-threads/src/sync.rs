//! What the team and the schedule are made of: the system's primitives, or, with `--cfg loom`, the model checker's in their place.

#[cfg(loom)]
pub(crate) use loom::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
};
#[cfg(not(loom))]
pub(crate) use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{Builder, JoinHandle},
};

/// A number that threads can sleep on until it changes.
#[cfg(not(loom))]
pub(crate) struct Futex(pub AtomicU32);

#[cfg(not(loom))]
impl Futex {
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Sleeps if the number is `seen`, until [`Futex::wake_all`] or for no reason.
    pub fn wait(&self, seen: u32) {
        atomic_wait::wait(&self.0, seen);
    }

    pub fn wake_all(&self) {
        atomic_wait::wake_all(&self.0);
    }
}

/// The same of a lock and a condition, which the model checker knows: looking and falling asleep are one step.
#[cfg(loom)]
pub(crate) struct Futex(pub AtomicU32, Mutex<()>, loom::sync::Condvar);

#[cfg(loom)]
impl Futex {
    pub fn new() -> Self {
        Self(AtomicU32::new(0), Mutex::new(()), loom::sync::Condvar::new())
    }

    pub fn wait(&self, seen: u32) {
        let guard = self.1.lock().expect("no panic under this lock");
        if self.0.load(Ordering::Acquire) == seen {
            drop(self.2.wait(guard));
        }
    }

    pub fn wake_all(&self) {
        let _guard = self.1.lock().expect("no panic under this lock");
        self.2.notify_all();
    }
}

/// A cell whose users see to it that nobody reads while somebody writes; the model checker checks them.
#[cfg(not(loom))]
pub(crate) struct SharedCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> SharedCell<T> {
    pub fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody writes meanwhile.
    pub unsafe fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the caller's.
        f(unsafe { &*self.0.get() })
    }

    /// # Safety
    /// Nobody reads or writes meanwhile.
    pub unsafe fn write(&self, value: T) {
        // SAFETY: the caller's.
        unsafe { *self.0.get() = value };
    }
}

#[cfg(loom)]
pub(crate) struct SharedCell<T>(loom::cell::UnsafeCell<T>);

#[cfg(loom)]
impl<T> SharedCell<T> {
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// Nobody writes meanwhile.
    pub unsafe fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        // SAFETY: the caller's; loom looks.
        self.0.with(|value| f(unsafe { &*value }))
    }

    /// # Safety
    /// Nobody reads or writes meanwhile.
    pub unsafe fn write(&self, value: T) {
        // SAFETY: the caller's; loom looks.
        self.0.with_mut(|cell| unsafe { *cell = value });
    }
}
