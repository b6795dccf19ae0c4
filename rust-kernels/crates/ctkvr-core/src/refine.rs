//! Refinement of candidates: exact scores, their softmax, the choice of the best, and what stands for the others.

pub mod ranked;
pub mod score;
pub mod select;
pub mod top_k;
pub mod unselected;
pub mod weigh;
