//! CTkvr's own part of the engine: where keys and values are stored, which of them a query reads, and exact attention over those.
//! No model, no files, no threads of its own but for builds, no JavaScript.
//!
//! What uses what, a module only those to its left:
//!
//! ```text
//! error <- kv, rotary, sum, k_means, part <- options <- retriever <- selector, search <- refine <- attention <- tail <- index
//!       <- step <- sequence <- plain_head, head_index
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `kv` | pages of keys and values |
//! | `options`, `selector` | settings that all methods share, and a sequence's |
//! | `retriever` | the seam for retrieval methods |
//! | `search`, `refine`, `attention` | a decode step, stage by stage; `attention` also partial sums and prompts |
//! | `tail` | clusters that stand for what is not read |
//! | `index` | CTkvr: centroids, lists, probe, growth |
//! | `sequence` | the state of one sequence, and when its heads are built and grown |
//! | `plain_head`, `head_index` | one head on plain arrays: with any method, and with CTkvr stage by stage |
//! | `rotary` | rotary embedding, and what it does to cosines |

pub mod attention;
pub mod error;
pub mod head_index;
pub mod index;
pub mod k_means;
pub mod kv;
pub mod memory_need;
pub mod options;
pub mod part;
pub mod plain_head;
pub mod refine;
pub mod retriever;
pub mod rotary;
pub mod search;
pub mod selector;
pub mod sequence;
pub mod step;
pub mod sum;
pub mod tail;
#[cfg(test)]
mod test_rows;

pub use attention::alone::HeadAttention;
pub use attention::counters::SelectionCounters;
pub use attention::stage_clock::StageTimes;
pub use error::{Error, Result};
pub use head_index::{
    AppendInput, GivenCandidates, GivenTail, HeadIndex, HeadIndexOptions, HeadInput, ImageInput, SegmentInfo, TailInfo,
    TailSegmentInfo,
};
pub use index::ctkvr::Ctkvr;
pub use index::options::{CentroidChoice, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions};
pub use index::spread_queries::spread_queries;
pub use kv::huge_pages::prefer_huge_pages;
pub use memory_need::MemoryQuestion;
pub use options::{BuildOptions, StepOptions};
pub use rotary::embedding::{RopePairing, RotaryEmbedding};
pub use rotary::key_overlap::{OverlapBySimilarity, OverlapInput, overlap_by_similarity};
pub use rotary::query_cosine::{CosineByDistance, RowStatistics, cosine_by_distance};
pub use rotary::scaling::RopeScaling;
pub use selector::SelectorOptions;
pub use step::{AttentionShape, BuildReport, LocalLayers, Phase, SequenceId, SequenceMemory};
