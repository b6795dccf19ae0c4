//! One head's index as bytes: little endian, every section at a multiple of 64, so that a file can be mapped into memory. The same format
//! as packages/centroid-index/src/index-image.ts; docs/design/retrieval.md has it as a table. Keys and values are not in it.
//!
//! What is read may be damaged or made up: every size has a limit, every sum is checked, and nothing is allocated for what is not there.

use std::ops::Range;
use std::sync::Arc;

use half::f16;

use crate::error::{Error, Result};
use crate::head_index::kept_queries::KeptQueries;
use crate::index::centroid_block::CentroidBlock;
use crate::index::centroid_index::CentroidIndex;
use crate::index::posting_lists::PostingLists;
use crate::index::quantised::QuantisedRows;
use crate::kv::f16_rows::F16Rows;
use crate::options::{CentroidChoice, SelectorKind, SelectorOptions};
use crate::tail::segment::TailSegment;
use crate::tail::{MAX_CORRECTION, Tail};
use ctkvr_kernels::MAX_HEAD_DIM;

const MAGIC: &[u8; 8] = b"CTKVRIDX";
/// Raised whenever a field changes its meaning; images of other versions are refused.
const VERSION: u32 = 3;
/// Sections begin at multiples of it: a cache line, and more than any element needs.
const ALIGNMENT: usize = 64;
const HEADER_BYTES: usize = 128;
/// Of a block's and of a tail segment's.
const RECORD_BYTES: usize = 64;
/// What the checksum covers begins behind it.
const CHECKED_FROM: usize = 16;

/// Positions are u32 and options end at 2^31 - 1 (`UNBOUNDED` of packages/core).
const MAX_TOKENS: usize = 0x7fff_ffff;
/// Query heads of a KV head: models have up to 128.
const MAX_GROUP: usize = 65_536;
/// An index holds at most twice as many centroids as its base, in blocks of one or more.
const MAX_BLOCKS: usize = 1 << 20;
const MAX_CENTROIDS: usize = 1 << 24;
/// Clusters of a segment are counted by u16.
const MAX_CLUSTERS: usize = 1 << 16;

/// What an image holds.
pub struct IndexImage {
    pub num_tokens: usize,
    pub head_dim: usize,
    pub group: usize,
    pub options: SelectorOptions,
    pub index: Option<CentroidIndex>,
    pub built_at: Vec<usize>,
    pub kept: KeptQueries,
}

/// Writes an image.
pub fn encode_image(image: &IndexImage) -> Vec<u8> {
    let mut out = Writer { bytes: Vec::new() };
    let (options, index) = (&image.options, image.index.as_ref());
    let blocks = index.map_or(&[][..], |i| i.blocks());
    let (num_base, known_from) = index.map_or((0, 0), CentroidIndex::bounds);
    let tail = index.and_then(CentroidIndex::tail);
    let segments = tail.map_or(&[][..], Tail::segments);
    let (positions, rows) = image.kept.parts();
    out.bytes.extend_from_slice(MAGIC);
    // Version, then checksum and total size, which come last.
    out.u32s([VERSION as usize, 0, 0, 0]);
    out.u32s([image.head_dim, image.group, image.num_tokens, blocks.len(), num_base, known_from]);
    out.f32s(&[index.map_or(0.0, CentroidIndex::volatility), index.map_or(-1.0, CentroidIndex::similarity_floor)]);
    out.u32s([image.built_at.len(), positions.len()]);
    out.u32s([options.num_sink_tokens, options.recent_window, options.num_centroids, options.centroids_per_list]);
    out.u32s([options.append_size, options.list_len, options.num_probes, options.max_selected]);
    out.u32s([usize::from(options.tail), usize::from(options.centroids == CentroidChoice::Spread)]);
    out.u32s([options.cluster_size, options.cluster_probes, segments.len()]);
    out.align();
    out.u32s(image.built_at.iter().copied());
    out.align();
    out.u32s(positions.iter().map(|&p| p as usize));
    out.align();
    out.f32s(rows);
    out.align();
    for block in blocks {
        let list_bytes = block.lists.parts().0.len();
        out.record([block.start, block.end, block.made_at, block.grown_at, block.num_centroids(), list_bytes]);
    }
    for segment in segments {
        out.record([segment.start, segment.end(), segment.made_at, segment.num_clusters(), 0, 0]);
    }
    if let Some(tail) = tail {
        out.f32s(tail.corrections());
        out.align();
    }
    for block in blocks {
        out.rows(&block.pooled);
        let (bytes, offsets) = block.lists.parts();
        out.u32s(offsets.iter().map(|&o| o as usize));
        out.align();
        out.bytes.extend_from_slice(bytes);
        out.align();
    }
    for segment in segments {
        for values in [&segment.cluster_of[..], segment.keys().values(), segment.values().values()] {
            out.u16s(values);
            out.align();
        }
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
    let num_blocks = header.size("numBlocks", 36, 0..MAX_BLOCKS + 1)?;
    let num_base = header.size("numBase", 40, usize::from(num_blocks > 0)..MAX_CENTROIDS + 1)?;
    let known_from = header.size("knownFrom", 44, 0..num_tokens + 1)?;
    let (volatility, similarity_floor) = (f32::from_bits(header.u32(48)), f32::from_bits(header.u32(52)));
    if !(0.0..=1.0).contains(&volatility) || !similarity_floor.is_finite() {
        return Err(bad("volatility", "numbers from 0 to 1", format!("{volatility} and {similarity_floor}")));
    }
    let num_built = header.size("numBuilt", 56, 0..num_tokens + 2)?;
    let num_kept = header.size("numKept", 60, 0..num_tokens + 1)?;
    let options = header.options()?;
    let num_segments = header.size("numTailSegments", 112, 0..num_tokens + 1)?;
    if header.bytes[116..].iter().any(|&b| b != 0) {
        return Err(bad("header", "zeros at its end", "others"));
    }

    let mut sections = Sections { bytes, at: HEADER_BYTES };
    let built_at = sections.u32s("builtAt", num_built)?;
    check_ascending("builtAt", &built_at, num_tokens + 1)?;
    let positions = sections.u32s("keptPositions", num_kept)?;
    check_ascending("keptPositions", &positions, num_tokens)?;
    let rows = sections.f32s("keptQueries", &[num_kept, group, head_dim], f32::is_finite)?;
    let records = sections.take("blocks", &[num_blocks, RECORD_BYTES])?;
    let segment_records = sections.take("tail segments", &[num_segments, RECORD_BYTES])?;
    let has_tail = options.tail && num_blocks > 0;
    let corrections = match has_tail {
        true => sections.f32s("tail corrections", &[group, 1, 1], |v| (0.0..=MAX_CORRECTION).contains(&v))?,
        false => Vec::new(),
    };
    let mut blocks: Vec<Arc<CentroidBlock>> = Vec::with_capacity(num_blocks);
    for record in records.chunks_exact(RECORD_BYTES) {
        let shape = BlockShape { head_dim, group, per_list: options.centroids_per_list, num_tokens };
        let block = sections.block(&Header { bytes: record }, shape, blocks.last().map(|b| &**b))?;
        blocks.push(Arc::new(block));
    }
    let mut segments: Vec<Arc<TailSegment>> = Vec::with_capacity(num_segments);
    let (first, last) = (blocks.first().map_or(0, |b| b.start), blocks.last().map_or(0, |b| b.end));
    for record in segment_records.chunks_exact(RECORD_BYTES) {
        let (next, made_at) = segments.last().map_or((first, 0), |s| (s.end(), s.made_at));
        let segment = sections.tail_segment(&Header { bytes: record }, next..last, made_at..num_tokens + 1, head_dim)?;
        segments.push(Arc::new(segment));
    }
    let covered = segments.last().map_or(first, |s| s.end());
    if has_tail && covered != last || !has_tail && num_segments > 0 {
        return Err(bad("numTailSegments", "as many as cover the region", num_segments));
    }
    if sections.at != bytes.len() {
        return Err(bad("size", format!("{} bytes", sections.at), bytes.len()));
    }
    let tail = has_tail.then(|| Tail::from_parts(segments, corrections, options.cluster_size));
    let index =
        (num_blocks > 0).then(|| CentroidIndex::from_blocks(blocks, (num_base, known_from), (volatility, similarity_floor), tail));
    if index.is_none() != built_at.is_empty() {
        return Err(bad("numBuilt", "0 without blocks, and only then", num_built));
    }
    let built_at = built_at.into_iter().map(|at| at as usize).collect();
    let kept = KeptQueries::from_parts(group * head_dim, positions, rows);
    Ok(IndexImage { num_tokens, head_dim, group, options, index, built_at, kept })
}

fn bad(field: &'static str, expected: impl ToString, actual: impl ToString) -> Error {
    Error::BadIndexImage { field, expected: expected.to_string(), actual: actual.to_string() }
}

fn check_ascending(field: &'static str, values: &[u32], end: usize) -> Result<()> {
    let ascends = values.windows(2).all(|pair| pair[0] < pair[1]) && values.last().is_none_or(|&last| (last as usize) < end);
    if ascends { Ok(()) } else { Err(bad(field, format!("ascending and below {end}"), "others")) }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Values above u32 stand for "no bound", which its largest does too.
    fn u32s(&mut self, values: impl IntoIterator<Item = usize>) {
        for value in values {
            self.bytes.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Fields of a record, and zeros.
    fn record(&mut self, fields: [usize; 6]) {
        let end = self.bytes.len() + RECORD_BYTES;
        self.u32s(fields);
        self.bytes.resize(end, 0);
    }

    fn u16s(&mut self, values: &[u16]) {
        self.bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    fn f32s(&mut self, values: &[f32]) {
        self.bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// Codes, then scales, each a section.
    fn rows(&mut self, rows: &QuantisedRows) {
        self.bytes.extend(rows.codes.iter().map(|&c| c as u8));
        self.align();
        self.f32s(&rows.scales);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Fixed-size fields.
struct Header<'a> {
    bytes: &'a [u8],
}

impl Header<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    fn size(&self, field: &'static str, at: usize, allowed: Range<usize>) -> Result<usize> {
        let value = self.u32(at) as usize;
        if allowed.contains(&value) {
            return Ok(value);
        }
        Err(bad(field, format!("from {} to {}", allowed.start, allowed.end.saturating_sub(1)), value))
    }

    fn check_end(&self, field: &'static str, at: usize) -> Result<()> {
        if self.bytes[at..].iter().all(|&b| b == 0) { Ok(()) } else { Err(bad(field, "zeros at its record's end", "others")) }
    }

    fn options(&self) -> Result<SelectorOptions> {
        let size = |field, at, least| self.size(field, at, least..MAX_TOKENS + 1);
        Ok(SelectorOptions {
            kind: SelectorKind::Ctkvr,
            num_sink_tokens: size("numSinkTokens", 64, 0)?,
            recent_window: size("recentWindow", 68, 1)?,
            num_centroids: size("numCentroids", 72, 0)?,
            centroids_per_list: size("centroidsPerList", 76, 1)?,
            append_size: size("appendSize", 80, 1)?,
            list_len: size("listLength", 84, 0)?,
            num_probes: size("numProbes", 88, 1)?,
            max_selected: size("maxSelected", 92, 0)?,
            tail: self.size("tail", 96, 0..2)? == 1,
            cluster_size: size("clusterSize", 104, 1)?,
            cluster_probes: size("clusterProbes", 108, 0)?,
            centroids: match self.size("centroids", 100, 0..2)? {
                0 => CentroidChoice::Last,
                _ => CentroidChoice::Spread,
            },
            ..SelectorOptions::full()
        })
    }
}

/// Sizes that all blocks share.
#[derive(Clone, Copy)]
struct BlockShape {
    head_dim: usize,
    group: usize,
    per_list: usize,
    num_tokens: usize,
}

/// What follows the header, section by section.
struct Sections<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Sections<'a> {
    /// The next section, of the product of `sizes` bytes.
    fn take(&mut self, field: &'static str, sizes: &[usize]) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        let size = sizes.iter().try_fold(1usize, |product, &s| product.checked_mul(s));
        let padded = size.and_then(|s| s.checked_next_multiple_of(ALIGNMENT)).filter(|&padded| padded <= left);
        let (Some(size), Some(padded)) = (size, padded) else {
            return Err(bad(field, format!("{} bytes", size.map_or("too many".into(), |s| s.to_string())), left));
        };
        let section = &self.bytes[self.at..self.at + size];
        if self.bytes[self.at + size..self.at + padded].iter().any(|&b| b != 0) {
            return Err(bad(field, "zeros behind it", "others"));
        }
        self.at += padded;
        Ok(section)
    }

    fn u32s(&mut self, field: &'static str, count: usize) -> Result<Vec<u32>> {
        let (values, _) = self.take(field, &[count, size_of::<u32>()])?.as_chunks();
        Ok(values.iter().map(|v| u32::from_le_bytes(*v)).collect())
    }

    fn u16s(&mut self, field: &'static str, count: usize, width: usize) -> Result<Vec<u16>> {
        let (values, _) = self.take(field, &[count, width, size_of::<u16>()])?.as_chunks();
        Ok(values.iter().map(|v| u16::from_le_bytes(*v)).collect())
    }

    fn f32s(&mut self, field: &'static str, counts: &[usize; 3], allowed: impl Fn(f32) -> bool) -> Result<Vec<f32>> {
        let (values, _) = self.take(field, &[counts[0], counts[1], counts[2], size_of::<f32>()])?.as_chunks();
        let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
        match values.iter().find(|&&v| !allowed(v)) {
            None => Ok(values),
            Some(other) => Err(bad(field, "finite numbers", other)),
        }
    }

    fn rows(&mut self, field: &'static str, num_rows: usize, dim: usize) -> Result<QuantisedRows> {
        let codes = self.take(field, &[num_rows, dim])?.iter().map(|&b| b as i8).collect();
        let scales = self.f32s(field, &[num_rows, 1, 1], |v| v.is_finite() && v.is_sign_positive())?;
        Ok(QuantisedRows { dim, codes, scales })
    }

    fn block(&mut self, record: &Header, shape: BlockShape, before: Option<&CentroidBlock>) -> Result<CentroidBlock> {
        let BlockShape { head_dim, group, per_list, num_tokens } = shape;
        let start = record.size("block start", 0, before.map_or(0..num_tokens + 1, |b| b.start..b.start + 1))?;
        let made_at = record.size("block madeAt", 8, before.map_or(0, |b| b.made_at)..num_tokens + 1)?;
        let end = record.size("block end", 4, before.map_or(start, |b| b.end)..made_at + 1)?;
        let grown_at = record.size("block grownAt", 12, before.map_or(0, |b| b.grown_at)..made_at + 1)?;
        let num_centroids = record.size("block numCentroids", 16, 1..MAX_CENTROIDS + 1)?;
        let list_bytes = record.size("block listBytes", 20, 0..usize::MAX)?;
        record.check_end("block", 24)?;
        let pooled = self.rows("pooled vectors", num_centroids, head_dim)?;
        let num_lists = CentroidBlock::num_lists_of(num_centroids, per_list);
        let offsets = self.u32s("list offsets", num_lists + 1)?;
        let bytes = self.take("lists", &[list_bytes])?.to_vec();
        let lists = PostingLists::from_parts(bytes, offsets, end - start);
        let lists = lists.ok_or_else(|| bad("lists", format!("ascending positions below {}", end - start), "others"))?;
        Ok(CentroidBlock { start, end, made_at, grown_at, group, head_dim, per_list, pooled, lists })
    }

    /// A segment that begins where `region` does.
    fn tail_segment(
        &mut self,
        record: &Header,
        region: Range<usize>,
        made_at: Range<usize>,
        head_dim: usize,
    ) -> Result<TailSegment> {
        let start = record.size("tail segment start", 0, region.start..region.start + 1)?;
        let end = record.size("tail segment end", 4, start + 1..region.end + 1)?;
        let made_at = record.size("tail segment madeAt", 8, made_at)?;
        let num_clusters = record.size("tail segment numClusters", 12, 1..MAX_CLUSTERS + 1)?;
        record.check_end("tail segment", 16)?;
        let cluster_of = self.u16s("tail clusters", end - start, 1)?;
        let mut means = |field| {
            let values = self.u16s(field, num_clusters, head_dim)?;
            match values.iter().map(|&x| f16::from_bits(x)).find(|x| !x.is_finite()) {
                None => Ok(F16Rows::new(values, head_dim)),
                Some(other) => Err(bad(field, "finite numbers", other)),
            }
        };
        let (keys, values) = (means("tail keys")?, means("tail values")?);
        TailSegment::from_parts(start, made_at, cluster_of, keys, values)
            .ok_or_else(|| bad("tail clusters", format!("below {num_clusters}, and each at least once"), "others"))
    }
}
