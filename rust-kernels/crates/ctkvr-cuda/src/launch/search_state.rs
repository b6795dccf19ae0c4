//! What a slot's search has come to, as the kernels of retrieval keep it.

use ctkvr_core::retriever::{Candidates, ProposedTail};

use crate::span::Plain;

/// `Search` of kernels/retrieval.cuh; what the host reads for the report, and writes where it has searched itself.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotSearch {
    /// Bytes of index read.
    pub index_bytes: u64,
    /// As [`candidates_code`].
    pub candidates: u32,
    /// As [`tail_code`].
    pub tail: u32,
    /// Whether every candidate is read.
    pub reads_all: u32,
    pub num_candidates: u32,
    pub num_selected: u32,
    pub num_probed: u32,
    pub is_outlier: u32,
    /// Whether everything is read because the query is an outlier.
    pub repairs: u32,
    pub most_selected: u32,
    pub chooses: u32,
}

/// Largest score of one head, and the sum of e^(score - largest): `Total` of kernels/retrieval.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Total {
    pub max: f32,
    pub sum: f32,
}

// SAFETY: numbers without padding, as in kernels/retrieval.cuh.
unsafe impl Plain for SlotSearch {}
// SAFETY: as above.
unsafe impl Plain for Total {}

const _: () = assert!(size_of::<SlotSearch>() == 48 && size_of::<Total>() == 8);

pub fn candidates_code(candidates: Candidates) -> u32 {
    match candidates {
        Candidates::None => 0,
        Candidates::Region => 1,
        Candidates::Listed => 2,
        Candidates::All => 3,
    }
}

pub fn tail_code(tail: ProposedTail) -> u32 {
    match tail {
        ProposedTail::None => 0,
        ProposedTail::Given => 1,
        ProposedTail::Scored => 2,
    }
}
