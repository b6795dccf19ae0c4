//! CTkvr's own part of the engine: where keys and values are stored, which of them a query reads, and exact attention over those.
//! No model, no files, no threads of its own but for builds, no JavaScript.

pub mod attention;
pub mod error;
pub mod head_index;
pub mod index;
pub mod key_clusters;
pub mod kv;
pub mod magicpig;
pub mod memory_need;
pub mod options;
pub mod quest;
pub mod refine;
pub mod rotary;
pub mod selector;
pub mod sequence;
pub mod snapkv;
pub mod step;
pub mod tail;
#[cfg(test)]
mod test_rows;

pub use attention::given_candidates::{GivenCandidates, GivenTail};
pub use attention::stage_clock::StageTimes;
pub use error::{Error, Result};
pub use head_index::{AppendInput, BlockInfo, HeadAttention, HeadIndex, HeadInput, ImageInput, TailInfo, TailSegmentInfo};
pub use index::spread_queries::spread_queries;
pub use kv::huge_pages::prefer_huge_pages;
pub use memory_need::MemoryQuestion;
pub use options::{CentroidChoice, SelectorKind, SelectorOptions};
pub use rotary::embedding::{RopePairing, RotaryEmbedding};
pub use rotary::key_overlap::{OverlapBySimilarity, OverlapInput, overlap_by_similarity};
pub use rotary::query_cosine::{CosineByDistance, RowStatistics, cosine_by_distance};
pub use rotary::scaling::RopeScaling;
pub use step::{AttentionShape, BuildReport, Phase, SelectionCounters, SequenceId, SequenceMemory, SequenceRows, StepReport};
