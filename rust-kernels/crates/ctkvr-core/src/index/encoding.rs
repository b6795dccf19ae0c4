//! What CTkvr keeps of one head as bytes: a header and the sections of its index. Keys, values and settings are not in it.

use std::ops::Range;

use ctkvr_kernels::KvFormat;

use crate::error::Result;
use crate::index::centroid_index::{CentroidIndex, IndexFigures};
use crate::index::options::CtkvrOptions;
use crate::index::sections::{ALIGNMENT, Header, IndexShape, MAX_CENTROIDS, MAX_SEGMENTS, Sections, Writer, bad, write_index};
use crate::tail::Tail;

const MAGIC: &[u8; 8] = b"CTKVRHED";
/// Raised whenever a field changes its meaning; heads of other versions are refused.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = ALIGNMENT;

/// A head as it was encoded.
pub struct HeadEncoding {
    pub index: CentroidIndex,
    pub sharpness: f32,
    pub is_retrieval_head: bool,
}

/// Appends a head to `out`.
pub fn encode_head(index: &CentroidIndex, sharpness: f32, is_retrieval_head: bool, out: &mut Vec<u8>) {
    let mut writer = Writer { bytes: Vec::new() };
    let IndexFigures { num_base, known_from, volatility, similarity_floor } = index.figures();
    let num_tail_segments = index.tail().map_or(0, |tail| Tail::segments(tail).len());
    writer.bytes.extend_from_slice(MAGIC);
    writer.u32s([
        VERSION as usize,
        index.segments().len(),
        num_tail_segments,
        num_base,
        known_from,
        usize::from(is_retrieval_head),
    ]);
    writer.f32s(&[volatility, similarity_floor, sharpness]);
    writer.align();
    write_index(&mut writer, index);
    out.append(&mut writer.bytes);
}

/// What a head is of.
pub struct HeadExtent {
    /// Positions that it chooses from.
    pub region: Range<usize>,
    /// Stored when it last changed.
    pub num_tokens: usize,
    pub head_dim: usize,
    pub group: usize,
}

/// Reads a head of this extent, made with these settings.
pub fn decode_head(bytes: &[u8], extent: &HeadExtent, made: &CtkvrOptions) -> Result<HeadEncoding> {
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(bad("head", "one of CTkvr", "others"));
    }
    let header = Header { bytes: &bytes[..HEADER_BYTES] };
    header.size("head version", 8, VERSION as usize..VERSION as usize + 1)?;
    let num_segments = header.size("head numSegments", 12, 1..MAX_SEGMENTS + 1)?;
    let num_tail_segments = header.size("head numTailSegments", 16, 0..extent.num_tokens + 1)?;
    let num_base = header.size("head numBase", 20, 1..MAX_CENTROIDS + 1)?;
    let known_from = header.size("head knownFrom", 24, 0..extent.num_tokens + 1)?;
    let is_retrieval_head = header.size("head isRetrievalHead", 28, 0..2)? == 1;
    let [volatility, similarity_floor, sharpness] = [32, 36, 40].map(|at| f32::from_bits(header.u32(at)));
    if !(0.0..=1.0).contains(&volatility) || !similarity_floor.is_finite() || !sharpness.is_finite() {
        return Err(bad("head volatility", "numbers from 0 to 1", format!("{volatility} and {similarity_floor}")));
    }
    let shape = IndexShape {
        head_dim: extent.head_dim,
        group: extent.group,
        num_tokens: extent.num_tokens,
        num_segments,
        num_tail_segments,
        least_centroids: usize::from(!(is_retrieval_head && made.scores_all())),
        per_list: made.build.centroids_per_list,
        clusters: made.build.clusters(),
        formats: &[KvFormat::F16, KvFormat::Q8],
    };
    let mut sections = Sections { bytes, at: HEADER_BYTES };
    let (segments, tail) = sections.index(&shape)?;
    if sections.at != bytes.len() {
        return Err(bad("head size", format!("{} bytes", sections.at), bytes.len()));
    }
    let figures = IndexFigures { num_base, known_from, volatility, similarity_floor };
    let index = CentroidIndex::from_segments(segments, figures, tail);
    if (index.start(), index.end()) != (extent.region.start, extent.region.end) {
        return Err(bad("head region", format!("{:?}", extent.region), format!("{}..{}", index.start(), index.end())));
    }
    Ok(HeadEncoding { index, sharpness, is_retrieval_head })
}
