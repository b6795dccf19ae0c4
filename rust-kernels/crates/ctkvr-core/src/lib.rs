//! CTkvr's own part of the engine: where keys and values are stored, which of them a query reads, and exact attention over those.
//! No model, no files, no JavaScript. Everything has a scalar reference; SIMD is chosen at run time.

mod aligned;
mod backend;
mod block_builder;
mod centroid_block;
mod centroid_index;
mod cpu_attention;
mod decode;
mod decode_schedule;
mod error;
mod f16_rows;
mod given_candidates;
mod head_index;
mod huge_pages;
mod index_image;
mod k_means;
mod kernels;
mod key_clusters;
mod key_overlap;
mod key_panels;
mod kv;
mod magicpig;
mod options;
mod panels;
mod partial;
mod posting_lists;
mod prefill;
mod prefill_bf16;
mod prefill_parts;
mod quantised;
mod query_cosine;
mod quest;
mod ranked;
mod recent_queries;
mod rope;
mod rope_scaling;
mod selector;
mod sequence;
mod slab;
mod snapkv;
mod spread_queries;
mod stage_clock;
mod tail;
mod tail_segment;
mod team;
#[cfg(test)]
mod test_rows;
mod top_k;
mod volatility;

pub use aligned::Aligned;
pub use backend::{
    ATTENTION_PHASES, AttentionBackend, AttentionShape, BuildReport, LayerAttention, LayerIo, Phase, SelectionCounters, SequenceId,
    SequenceMemory, SequenceRows, StepReport,
};
pub use cpu_attention::{CpuAttention, StoredHead};
pub use error::{Error, Result};
pub use given_candidates::{GivenCandidates, GivenTail};
pub use head_index::{AppendInput, BlockInfo, HeadAttention, HeadIndex, HeadInput, ImageInput, TailInfo, TailSegmentInfo};
pub use huge_pages::prefer_huge_pages;
pub use kernels::{
    BF16_BLOCK, BF16_ROWS, BF16_SCORES, BLOCK, Bf16Block, Bf16Kernels, Bf16Product, BlockNumbers, Gemm, Kernels, KvFormat, KvSide,
    LevelBits, MAX_HEAD_DIM, PAGE_SIZE, PANEL_COLUMNS, PackedFormat, PackedKernels, PackedProduct, PageLayout, ROW_BLOCK, Rows,
    STRIP_ROWS, TILE_ROWS, Tile, TileLinear, TileProduct, TileScratch, TileStart, TileWeights, ToF32, activation_bytes,
    activation_tiles, bf16_depth,
};
pub use key_overlap::{OverlapBySimilarity, OverlapInput, overlap_by_similarity};
pub use options::{CentroidChoice, SelectorKind, SelectorOptions};
pub use query_cosine::{CosineByDistance, RowStatistics, cosine_by_distance};
pub use rope::{RopePairing, RotaryEmbedding};
pub use rope_scaling::RopeScaling;
pub use spread_queries::spread_queries;
pub use stage_clock::StageTimes;
pub use team::{Ahead, Job, Stopped, Team, Units};
