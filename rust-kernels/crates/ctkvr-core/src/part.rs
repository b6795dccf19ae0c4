//! How the threads of a step share one head's work.

use std::ops::Range;

/// Which part of how many a thread works on.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub index: usize,
    pub count: usize,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// This part's share of n things in a row.
    pub fn of(self, n: usize) -> Range<usize> {
        n * self.index / self.count..n * (self.index + 1) / self.count
    }
}

/// Start of a buffer whose parts different threads write during one stage.
pub(crate) struct Shared<T>(*mut T);

// SAFETY: the buffer belongs to the same stage; who writes where is the contract of its methods that take `&self`.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl<T> Shared<T> {
    /// Of a buffer that stays where it is until the stage is over.
    pub(crate) fn of(buffer: &mut [T]) -> Self {
        Self(buffer.as_mut_ptr())
    }

    pub(crate) fn start(&self) -> *mut T {
        self.0
    }
}
