//! Retrieval methods to compare CTkvr with, one file each, through [`ctkvr_core::retriever`] alone: what others published, and the ends of
//! the scale (everything, nothing, the exact best).

mod exact_top_k;
mod full;
mod key_clusters;
mod magicpig;
mod quest;
mod registry;
mod snapkv;
mod streaming;
#[cfg(test)]
mod test_rows;
#[cfg(feature = "testing")]
pub mod testing;

pub use exact_top_k::ExactTopK;
pub use full::Full;
pub use key_clusters::KeyClusters;
pub use magicpig::{MagicPig, MagicPigOptions};
pub use quest::Quest;
pub use registry::{BaselineOptions, NAMES, named};
pub use snapkv::SnapKv;
pub use streaming::Streaming;
