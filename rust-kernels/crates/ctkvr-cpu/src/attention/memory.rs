//! What attention keeps from step to step: threads' scratch and the work of decoding heads. It never shrinks.

use std::cell::UnsafeCell;

use ctkvr_core::attention::decode::{AttendScratch, HeadDecode};
use ctkvr_core::attention::partial::Partial;
use ctkvr_core::attention::prefill::PrefillScratch;
use ctkvr_core::attention::prefill_parts::PrefillParts;
use ctkvr_core::attention::stage_clock::StageTotals;
use ctkvr_core::{AttentionShape, Error, Result};
use ctkvr_kernels::Kernels;
use ctkvr_threads::DecodeSchedule;

/// Memory for the attention of one step at a time, of one model, on so many threads.
pub struct AttentionMemory {
    pub(super) shape: AttentionShape,
    pub(super) kernels: &'static Kernels,
    /// Work and memory of each decode row's KV heads: `[decode rows, num_kv_heads]`.
    pub(super) decodes: Vec<UnsafeCell<HeadDecode>>,
    pub(super) schedule: DecodeSchedule,
    /// Work items of the prefill rows of one layer that sees everything, and of a local one.
    pub(super) prefills: PrefillParts,
    pub(super) local_prefills: PrefillParts,
    pub(super) threads: Vec<UnsafeCell<ThreadScratch>>,
}

/// One thread's.
pub(super) struct ThreadScratch {
    pub prefill: PrefillScratch,
    pub prefill_total: Partial,
    pub attend: AttendScratch,
    pub times: StageTotals,
}

impl AttentionMemory {
    /// For the threads of a team of `num_threads`.
    ///
    /// # Errors
    /// `InvalidOption` when query heads are not shared out evenly among KV heads.
    pub fn new(shape: AttentionShape, kernels: &'static Kernels, num_threads: usize) -> Result<Self> {
        if shape.num_kv_heads == 0 || !shape.num_q_heads.is_multiple_of(shape.num_kv_heads) || shape.num_q_heads == 0 {
            return Err(Error::InvalidOption {
                option: "numQueryHeads",
                expected: format!("a multiple of the {} KV heads", shape.num_kv_heads),
                actual: shape.num_q_heads.to_string(),
            });
        }
        let scratch = || {
            UnsafeCell::new(ThreadScratch {
                prefill: PrefillScratch::default(),
                prefill_total: Partial::default(),
                attend: AttendScratch::new(shape.group_size()),
                times: StageTotals::default(),
            })
        };
        Ok(Self {
            shape,
            kernels,
            decodes: Vec::new(),
            schedule: DecodeSchedule::default(),
            prefills: PrefillParts::default(),
            local_prefills: PrefillParts::default(),
            threads: (0..num_threads.max(1)).map(|_| scratch()).collect(),
        })
    }

    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    /// The kernels in use.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }
}
