//! An index as sections of bytes, little endian, each at a multiple of 64: what an image of a head and an encoded head have in common. What is
//! read may be damaged or made up: every size has a limit, and nothing is allocated for what is not there.

use std::ops::Range;
use std::sync::Arc;

use ctkvr_kernels::KvFormat;
use half::f16;

use crate::error::{Error, Result};
use crate::index::centroid_index::CentroidIndex;
use crate::index::centroid_segment::CentroidSegment;
use crate::index::posting_lists::PostingLists;
use crate::index::quantised::QuantisedRows;
use crate::kv::f16_rows::F16Rows;
use crate::kv::q8_pages::Q8Pages;
use crate::tail::means::ClusterMeans;
use crate::tail::segment::TailSegment;
use crate::tail::{ClusterOptions, MAX_CORRECTION, Tail};

/// Sections begin at multiples of it: a cache line, and more than any element needs.
pub(crate) const ALIGNMENT: usize = 64;
/// Of an index segment's and of a tail segment's.
const RECORD_BYTES: usize = 64;

/// Positions are u32 and options end at 2^31 - 1 (`UNBOUNDED` of packages/core).
pub(crate) const MAX_TOKENS: usize = 0x7fff_ffff;
/// An index holds at most twice as many centroids as its base, in segments of one or more.
pub(crate) const MAX_SEGMENTS: usize = 1 << 20;
pub(crate) const MAX_CENTROIDS: usize = 1 << 24;
/// Clusters of a segment are counted by u16.
const MAX_CLUSTERS: usize = 1 << 16;

pub(crate) fn bad(field: &'static str, expected: impl ToString, actual: impl ToString) -> Error {
    Error::BadIndexImage { field, expected: expected.to_string(), actual: actual.to_string() }
}

pub(crate) fn check_ascending(field: &'static str, values: &[u32], end: usize) -> Result<()> {
    let ascends = values.windows(2).all(|pair| pair[0] < pair[1]) && values.last().is_none_or(|&last| (last as usize) < end);
    if ascends { Ok(()) } else { Err(bad(field, format!("ascending and below {end}"), "others")) }
}

pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    /// Values above u32 stand for "no bound", which its largest does too.
    pub(crate) fn u32s(&mut self, values: impl IntoIterator<Item = usize>) {
        for value in values {
            self.bytes.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
        }
    }

    /// Fields of a record, and zeros.
    pub(crate) fn record(&mut self, fields: [usize; 6]) {
        let end = self.bytes.len() + RECORD_BYTES;
        self.u32s(fields);
        self.bytes.resize(end, 0);
    }

    pub(crate) fn u16s(&mut self, values: &[u16]) {
        self.bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub(crate) fn f32s(&mut self, values: &[f32]) {
        self.bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    /// Codes, then scales, each a section.
    fn rows(&mut self, rows: &QuantisedRows) {
        self.bytes.extend(rows.codes.iter().map(|&c| c as u8));
        self.align();
        self.f32s(&rows.scales);
        self.align();
    }

    pub(crate) fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Fixed-size fields.
pub(crate) struct Header<'a> {
    pub(crate) bytes: &'a [u8],
}

impl Header<'_> {
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    pub(crate) fn size(&self, field: &'static str, at: usize, allowed: Range<usize>) -> Result<usize> {
        let value = self.u32(at) as usize;
        if allowed.contains(&value) {
            return Ok(value);
        }
        Err(bad(field, format!("from {} to {}", allowed.start, allowed.end.saturating_sub(1)), value))
    }

    pub(crate) fn check_end(&self, field: &'static str, at: usize) -> Result<()> {
        if self.bytes[at..].iter().all(|&b| b == 0) { Ok(()) } else { Err(bad(field, "zeros at its record's end", "others")) }
    }
}

/// Sizes of an index, from its header and its settings.
pub(crate) struct IndexShape<'a> {
    pub(crate) head_dim: usize,
    pub(crate) group: usize,
    /// Tokens stored.
    pub(crate) num_tokens: usize,
    pub(crate) num_segments: usize,
    pub(crate) num_tail_segments: usize,
    /// Centroids of a segment: 0 where those of a retrieval head may stand.
    pub(crate) least_centroids: usize,
    /// Neighbouring centroids that share a list.
    pub(crate) per_list: usize,
    /// The tail's; `None` without a tail.
    pub(crate) clusters: Option<ClusterOptions>,
    /// Of the clusters' means: those that may stand there.
    pub(crate) formats: &'a [KvFormat],
}

/// Writes an index's segments and tail: records of both, the corrections, what is in the segments, the clusters.
pub(crate) fn write_index(out: &mut Writer, index: &CentroidIndex) {
    let tail = index.tail();
    let tail_segments = tail.map_or(&[][..], Tail::segments);
    for segment in index.segments() {
        let list_bytes = segment.lists.parts().0.len();
        out.record([segment.start, segment.end, segment.made_at, segment.grown_at, segment.num_centroids(), list_bytes]);
    }
    for segment in tail_segments {
        let format = segment.means().format() as usize;
        out.record([segment.start, segment.end(), segment.made_at, segment.num_clusters(), format, 0]);
    }
    if let Some(tail) = tail {
        out.f32s(tail.corrections());
        out.align();
    }
    for segment in index.segments() {
        out.rows(&segment.pooled);
        let (bytes, offsets) = segment.lists.parts();
        out.u32s(offsets.iter().map(|&o| o as usize));
        out.align();
        out.bytes.extend_from_slice(bytes);
        out.align();
    }
    for segment in tail_segments {
        out.u16s(&segment.cluster_of);
        out.align();
        match segment.means() {
            ClusterMeans::Exact { keys, values } => [keys, values].into_iter().for_each(|rows| {
                out.u16s(rows.values());
                out.align();
            }),
            ClusterMeans::Rounded(pages) => {
                out.u32s(pages.words().iter().map(|&word| word as usize));
                out.align();
            }
        }
    }
}

/// What follows the header, section by section.
pub(crate) struct Sections<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Sections<'a> {
    /// The next section, of the product of `sizes` bytes.
    pub(crate) fn take(&mut self, field: &'static str, sizes: &[usize]) -> Result<&'a [u8]> {
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

    pub(crate) fn u32s(&mut self, field: &'static str, count: usize) -> Result<Vec<u32>> {
        let (values, _) = self.take(field, &[count, size_of::<u32>()])?.as_chunks();
        Ok(values.iter().map(|v| u32::from_le_bytes(*v)).collect())
    }

    fn u16s(&mut self, field: &'static str, count: usize, width: usize) -> Result<Vec<u16>> {
        let (values, _) = self.take(field, &[count, width, size_of::<u16>()])?.as_chunks();
        Ok(values.iter().map(|v| u16::from_le_bytes(*v)).collect())
    }

    pub(crate) fn f32s(&mut self, field: &'static str, counts: &[usize; 3], allowed: impl Fn(f32) -> bool) -> Result<Vec<f32>> {
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

    fn q8_pages(&mut self, field: &'static str, count: usize, head_dim: usize) -> Result<Q8Pages> {
        KvFormat::Q8.check(head_dim).map_err(|_| bad(field, "f16 for heads of this size", head_dim))?;
        let words = self.u32s(field, Q8Pages::num_words(count, head_dim))?;
        Q8Pages::from_words(words, count, head_dim).ok_or_else(|| bad(field, "scales that are finite numbers from 0 on", "others"))
    }

    /// What [`write_index`] wrote.
    pub(crate) fn index(&mut self, shape: &IndexShape) -> Result<(Vec<Arc<CentroidSegment>>, Option<Tail>)> {
        let IndexShape { group, num_tokens, num_segments, num_tail_segments, clusters, .. } = *shape;
        let records = self.take("blocks", &[num_segments, RECORD_BYTES])?;
        let tail_records = self.take("tail segments", &[num_tail_segments, RECORD_BYTES])?;
        let clusters = clusters.filter(|_| num_segments > 0);
        let corrections = match clusters {
            Some(_) => self.f32s("tail corrections", &[group, 1, 1], |v| (0.0..=MAX_CORRECTION).contains(&v))?,
            None => Vec::new(),
        };
        let mut segments: Vec<Arc<CentroidSegment>> = Vec::with_capacity(num_segments);
        for record in records.chunks_exact(RECORD_BYTES) {
            let segment = self.segment(&Header { bytes: record }, shape, segments.last().map(|b| &**b))?;
            segments.push(Arc::new(segment));
        }
        let mut tail_segments: Vec<Arc<TailSegment>> = Vec::with_capacity(num_tail_segments);
        let (first, last) = (segments.first().map_or(0, |b| b.start), segments.last().map_or(0, |b| b.end));
        for record in tail_records.chunks_exact(RECORD_BYTES) {
            let (next, made_at) = tail_segments.last().map_or((first, 0), |s| (s.end(), s.made_at));
            let segment = self.tail_segment(&Header { bytes: record }, next..last, made_at..num_tokens + 1, shape)?;
            tail_segments.push(Arc::new(segment));
        }
        let covered = tail_segments.last().map_or(first, |s| s.end());
        if clusters.is_some() && covered != last || clusters.is_none() && num_tail_segments > 0 {
            return Err(bad("numTailSegments", "as many as cover the region", num_tail_segments));
        }
        let tail = clusters.map(|options| Tail::from_parts(tail_segments, corrections, options));
        Ok((segments, tail))
    }

    fn segment(&mut self, record: &Header, shape: &IndexShape, before: Option<&CentroidSegment>) -> Result<CentroidSegment> {
        let IndexShape { head_dim, group, per_list, num_tokens, least_centroids, .. } = *shape;
        let start = record.size("block start", 0, before.map_or(0..num_tokens + 1, |b| b.start..b.start + 1))?;
        let made_at = record.size("block madeAt", 8, before.map_or(0, |b| b.made_at)..num_tokens + 1)?;
        let end = record.size("block end", 4, before.map_or(start, |b| b.end)..made_at + 1)?;
        let grown_at = record.size("block grownAt", 12, before.map_or(0, |b| b.grown_at)..made_at + 1)?;
        let num_centroids = record.size("block numCentroids", 16, least_centroids..MAX_CENTROIDS + 1)?;
        let list_bytes = record.size("block listBytes", 20, 0..usize::MAX)?;
        record.check_end("block", 24)?;
        let pooled = self.rows("pooled vectors", num_centroids, head_dim)?;
        let num_lists = CentroidSegment::num_lists_of(num_centroids, per_list);
        let offsets = self.u32s("list offsets", num_lists + 1)?;
        let bytes = self.take("lists", &[list_bytes])?.to_vec();
        let lists = PostingLists::from_parts(bytes, offsets, end - start);
        let lists = lists.ok_or_else(|| bad("lists", format!("ascending positions below {}", end - start), "others"))?;
        Ok(CentroidSegment { start, end, made_at, grown_at, group, head_dim, per_list, pooled, lists })
    }

    /// A segment that begins where `region` does.
    fn tail_segment(
        &mut self,
        record: &Header,
        region: Range<usize>,
        made_at: Range<usize>,
        shape: &IndexShape,
    ) -> Result<TailSegment> {
        let start = record.size("tail segment start", 0, region.start..region.start + 1)?;
        let end = record.size("tail segment end", 4, start + 1..region.end + 1)?;
        let made_at = record.size("tail segment madeAt", 8, made_at)?;
        let head_dim = shape.head_dim;
        let num_clusters = record.size("tail segment numClusters", 12, 1..MAX_CLUSTERS + 1)?;
        // Where there is one format, its place is of no use as all behind it.
        let has_choice = shape.formats.len() > 1;
        let format = if has_choice { record.size("tail segment format", 16, 0..shape.formats.len())? } else { 0 };
        record.check_end("tail segment", if has_choice { 20 } else { 16 })?;
        let cluster_of = self.u16s("tail clusters", end - start, 1)?;
        let mut means = |field| {
            let values = self.u16s(field, num_clusters, head_dim)?;
            match values.iter().map(|&x| f16::from_bits(x)).find(|x| !x.is_finite()) {
                None => Ok(F16Rows::new(values, head_dim)),
                Some(other) => Err(bad(field, "finite numbers", other)),
            }
        };
        let means = match shape.formats[format] {
            KvFormat::F16 => ClusterMeans::Exact { keys: means("tail keys")?, values: means("tail values")? },
            KvFormat::Q8 => ClusterMeans::Rounded(self.q8_pages("tail means", num_clusters, head_dim)?),
        };
        TailSegment::from_parts(start, made_at, cluster_of, means)
            .ok_or_else(|| bad("tail clusters", format!("below {num_clusters}, and each at least once"), "others"))
    }
}
