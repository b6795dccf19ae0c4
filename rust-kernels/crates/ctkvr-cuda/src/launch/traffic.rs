//! How many bytes launches read and write of the device's memory. The formulas lie beside the launchers and say what the headers of the kernels
//! say; the ledger counts the same in the stand-in (feature `ledger`, `tests/ledger`).

use std::iter::Sum;
use std::ops::{Add, Mul};

use ctkvr_kernels::PageLayout;

/// Bytes of a launch, each once: what memory delivers and takes at least. What a launch has written before it reads it comes from the cache and
/// does not count. Nor does bookkeeping: what says where things lie and how many there are (addresses, `SlotLayout`, `RowPlace`, tiles, tables of
/// pages and of segments, states of searches, counts and kinds of slots, tickets).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read of what lies there from step to step: weights, keys and values, indexes.
    pub stored: usize,
    /// Read of what came earlier in the same step, from the host or another launch.
    pub passed: usize,
    pub written: usize,
}

impl Traffic {
    pub const NONE: Self = Self { stored: 0, passed: 0, written: 0 };
}

impl Add for Traffic {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { stored: self.stored + other.stored, passed: self.passed + other.passed, written: self.written + other.written }
    }
}

impl Mul<usize> for Traffic {
    type Output = Self;
    fn mul(self, times: usize) -> Self {
        Self { stored: self.stored * times, passed: self.passed * times, written: self.written * times }
    }
}

impl Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::NONE, Add::add)
    }
}

/// What one slot of a decode, a (sequence, KV head), is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotShape {
    pub layout: PageLayout,
    /// Query heads of the KV head.
    pub group: usize,
}

impl SlotShape {
    /// Bytes of a key or a value as it is stored.
    pub fn row_bytes(&self) -> usize {
        self.layout.format.row_bytes(self.layout.head_dim)
    }

    /// Bytes of the queries, or of anything that has an f32 for each of their values.
    pub fn query_bytes(&self) -> usize {
        self.group * self.layout.head_dim * size_of::<f32>()
    }

    /// Bytes of an f32 for each query head.
    pub fn head_bytes(&self) -> usize {
        self.group * size_of::<f32>()
    }
}
