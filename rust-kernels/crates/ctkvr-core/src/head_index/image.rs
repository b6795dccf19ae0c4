//! One head's index as bytes: little endian, every section at a multiple of 64, so that a file can be mapped into memory. The same format
//! as packages/centroid-index/src/index-image.ts; docs/design/retrieval.md has it as a table. Keys and values are not in it.
//!
//! What is read may be damaged or made up: every size has a limit, every sum is checked, and nothing is allocated for what is not there.

use crate::error::Result;
use crate::head_index::kept_queries::KeptQueries;
use crate::head_index::options::HeadIndexOptions;
use crate::index::centroid_index::{CentroidIndex, IndexFigures};
use crate::index::options::{CentroidChoice, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions};
use crate::index::sections::{
    Header, IndexShape, MAX_CENTROIDS, MAX_SEGMENTS, MAX_TOKENS, Sections, Writer, bad, check_ascending, write_index,
};
use crate::options::{BuildOptions, StepOptions};
use crate::tail::Tail;
use ctkvr_kernels::{KvFormat, MAX_HEAD_DIM};

const MAGIC: &[u8; 8] = b"CTKVRIDX";
/// Raised whenever a field changes its meaning; images of other versions are refused.
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 128;
/// What the checksum covers begins behind it.
const CHECKED_FROM: usize = 16;

/// Query heads of a KV head: models have up to 128.
const MAX_GROUP: usize = 65_536;

/// What an image holds.
pub struct IndexImage {
    pub num_tokens: usize,
    pub head_dim: usize,
    pub group: usize,
    pub options: HeadIndexOptions,
    pub index: Option<CentroidIndex>,
    pub built_at: Vec<usize>,
    pub kept: KeptQueries,
}

/// Writes an image.
pub fn encode_image(image: &IndexImage) -> Vec<u8> {
    let mut out = Writer { bytes: Vec::new() };
    let (options, index) = (&image.options, image.index.as_ref());
    let segments = index.map_or(&[][..], |i| i.segments());
    let none = IndexFigures { num_base: 0, known_from: 0, volatility: 0.0, similarity_floor: -1.0 };
    let IndexFigures { num_base, known_from, volatility, similarity_floor } = index.map_or(none, CentroidIndex::figures);
    let tail = index.and_then(CentroidIndex::tail);
    let tail_segments = tail.map_or(&[][..], Tail::segments);
    let (positions, rows) = image.kept.parts();
    out.bytes.extend_from_slice(MAGIC);
    // Version, then checksum and total size, which come last.
    out.u32s([VERSION as usize, 0, 0, 0]);
    out.u32s([image.head_dim, image.group, image.num_tokens, segments.len(), num_base, known_from]);
    out.f32s(&[volatility, similarity_floor]);
    out.u32s([image.built_at.len(), positions.len()]);
    let HeadIndexOptions { step, build, ctkvr: CtkvrOptions { build: made, search } } = options;
    out.u32s([step.num_sink_tokens, step.recent_window, build.num_queries, made.centroids_per_list]);
    out.u32s([build.append_size, made.list_len, search.num_probes, step.max_selected]);
    out.u32s([usize::from(made.tail), usize::from(made.centroids == CentroidChoice::Spread)]);
    out.u32s([made.cluster_size, search.cluster_probes, tail_segments.len()]);
    out.align();
    out.u32s(image.built_at.iter().copied());
    out.align();
    out.u32s(positions.iter().map(|&p| p as usize));
    out.align();
    out.f32s(rows);
    out.align();
    if let Some(index) = index {
        write_index(&mut out, index);
    }
    let mut bytes = out.bytes;
    let total = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&total.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads an image and checks all of it.
pub fn decode_image(bytes: &[u8]) -> Result<IndexImage> {
    if bytes.len() < HEADER_BYTES {
        return Err(bad("size", format!("at least {HEADER_BYTES} bytes"), bytes.len()));
    }
    if &bytes[..8] != MAGIC {
        return Err(bad("magic", "CTKVRIDX", String::from_utf8_lossy(&bytes[..8]).escape_debug()));
    }
    let header = Header { bytes: &bytes[..HEADER_BYTES] };
    if header.u32(8) != VERSION {
        return Err(bad("version", VERSION, header.u32(8)));
    }
    let total = u64::from(header.u32(16)) | u64::from(header.u32(20)) << 32;
    if total != bytes.len() as u64 {
        return Err(bad("size", format!("{total} bytes"), bytes.len()));
    }
    let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
    if checksum != header.u32(12) {
        return Err(bad("checksum", format!("{:08x}", header.u32(12)), format!("{checksum:08x}")));
    }

    let head_dim = header.size("headDim", 24, 1..MAX_HEAD_DIM + 1)?;
    let group = header.size("groupSize", 28, 1..MAX_GROUP + 1)?;
    let num_tokens = header.size("numTokens", 32, 0..MAX_TOKENS + 1)?;
    let num_segments = header.size("numBlocks", 36, 0..MAX_SEGMENTS + 1)?;
    let num_base = header.size("numBase", 40, usize::from(num_segments > 0)..MAX_CENTROIDS + 1)?;
    let known_from = header.size("knownFrom", 44, 0..num_tokens + 1)?;
    let (volatility, similarity_floor) = (f32::from_bits(header.u32(48)), f32::from_bits(header.u32(52)));
    if !(0.0..=1.0).contains(&volatility) || !similarity_floor.is_finite() {
        return Err(bad("volatility", "numbers from 0 to 1", format!("{volatility} and {similarity_floor}")));
    }
    let num_built = header.size("numBuilt", 56, 0..num_tokens + 2)?;
    let num_kept = header.size("numKept", 60, 0..num_tokens + 1)?;
    let options = read_options(&header)?;
    let num_tail_segments = header.size("numTailSegments", 112, 0..num_tokens + 1)?;
    if header.bytes[116..].iter().any(|&b| b != 0) {
        return Err(bad("header", "zeros at its end", "others"));
    }

    let mut sections = Sections { bytes, at: HEADER_BYTES };
    let built_at = sections.u32s("builtAt", num_built)?;
    check_ascending("builtAt", &built_at, num_tokens + 1)?;
    let positions = sections.u32s("keptPositions", num_kept)?;
    check_ascending("keptPositions", &positions, num_tokens)?;
    let rows = sections.f32s("keptQueries", &[num_kept, group, head_dim], f32::is_finite)?;
    let made = &options.ctkvr.build;
    let shape = IndexShape {
        head_dim,
        group,
        num_tokens,
        num_segments,
        num_tail_segments,
        least_centroids: 1,
        per_list: made.centroids_per_list,
        clusters: made.clusters(),
        formats: &[KvFormat::F16],
    };
    let (segments, tail) = sections.index(&shape)?;
    if sections.at != bytes.len() {
        return Err(bad("size", format!("{} bytes", sections.at), bytes.len()));
    }
    let figures = IndexFigures { num_base, known_from, volatility, similarity_floor };
    let index = (num_segments > 0).then(|| CentroidIndex::from_segments(segments, figures, tail));
    if index.is_none() != built_at.is_empty() {
        return Err(bad("numBuilt", "0 without blocks, and only then", num_built));
    }
    let built_at = built_at.into_iter().map(|at| at as usize).collect();
    let kept = KeptQueries::from_parts(group * head_dim, positions, rows);
    Ok(IndexImage { num_tokens, head_dim, group, options, index, built_at, kept })
}

/// The settings in a header.
fn read_options(header: &Header) -> Result<HeadIndexOptions> {
    let size = |field, at, least| header.size(field, at, least..MAX_TOKENS + 1);
    let step = StepOptions {
        num_sink_tokens: size("numSinkTokens", 64, 0)?,
        recent_window: size("recentWindow", 68, 1)?,
        max_selected: size("maxSelected", 92, 0)?,
        ..StepOptions::default()
    };
    let build = BuildOptions { num_queries: size("numCentroids", 72, 0)?, append_size: size("appendSize", 80, 1)? };
    let defaults = CtkvrOptions::default();
    let ctkvr = CtkvrOptions {
        build: CtkvrBuildOptions {
            centroids: match header.size("centroids", 100, 0..2)? {
                0 => CentroidChoice::Last,
                _ => CentroidChoice::Spread,
            },
            centroids_per_list: size("centroidsPerList", 76, 1)?,
            list_len: size("listLength", 84, 0)?,
            tail: header.size("tail", 96, 0..2)? == 1,
            cluster_size: size("clusterSize", 104, 1)?,
            ..defaults.build
        },
        search: CtkvrSearchOptions {
            num_probes: size("numProbes", 88, 1)?,
            cluster_probes: size("clusterProbes", 108, 0)?,
            ..defaults.search
        },
    };
    Ok(HeadIndexOptions { step, build, ctkvr })
}
