//! The device's copy of a [`CtkvrHead`]: a table of its segments, and the segments themselves, which heads and forks share there as they do
//! here. A segment never changes: it is copied once, and a head that grows copies the new one and a table of a few hundred bytes.
//!
//! Posting lists keep the gap bytes that the core has: a quarter of u32 positions, in memory and in what a step reads, and the copy is one copy.
//! A warp turns 512 of them into positions with one running sum (kernels/join.cu).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ctkvr_core::index::centroid_segment::CentroidSegment;
use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::tail::means::ClusterMeans;
use ctkvr_core::tail::segment::TailSegment;
use ctkvr_kernels::KvFormat;

use crate::buffer::DeviceBuffer;
use crate::device::Device;
use crate::error::Result;
use crate::span::{Plain, Span};

/// `CentroidSegment` of kernels/retrieval.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct CentroidTable {
    codes: u64,
    scales: u64,
    list_offsets: u64,
    list_bytes: u64,
    first: u32,
    num: u32,
    len: u32,
    per_list: u32,
}

/// `ClusterSegment` of kernels/retrieval.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct ClusterTable {
    keys: u64,
    values: u64,
    member_offsets: u64,
    members: u64,
    cluster_of: u64,
    first: u32,
    num: u32,
    start: u32,
    len: u32,
    is_q8: u32,
    reserved: u32,
}

/// `Head` of kernels/retrieval.cuh.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct HeadTable {
    centroid_segments: u64,
    cluster_segments: u64,
    counts: u64,
    corrections: u64,
    num_centroid_segments: u32,
    num_cluster_segments: u32,
    num_centroids: u32,
    num_clusters: u32,
    start: u32,
    end: u32,
    num_probes: u32,
    cluster_probes: u32,
    similarity_floor: f32,
    scores_all: u32,
    has_tail: u32,
    mean_bytes: u32,
}

// SAFETY: numbers without padding, as in kernels/retrieval.cuh.
unsafe impl Plain for CentroidTable {}
// SAFETY: as above.
unsafe impl Plain for ClusterTable {}
// SAFETY: as above.
unsafe impl Plain for HeadTable {}

const _: () = assert!(size_of::<CentroidTable>() == 48 && size_of::<ClusterTable>() == 64 && size_of::<HeadTable>() == 80);

/// What a slot has in the place of a head's address where nothing is searched on the device.
pub const NO_HEAD: u64 = 0;

/// What a head needs of a search's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeadSizes {
    /// Positions of the region.
    pub region: usize,
    pub num_centroids: usize,
    pub num_probes: usize,
    pub num_clusters: usize,
}

impl HeadSizes {
    /// Room for both.
    pub fn joined(self, other: Self) -> Self {
        Self {
            region: self.region.max(other.region),
            num_centroids: self.num_centroids.max(other.num_centroids),
            num_probes: self.num_probes.max(other.num_probes),
            num_clusters: self.num_clusters.max(other.num_clusters),
        }
    }
}

/// One head on the device.
pub struct HeadImage {
    table: DeviceBuffer<u8>,
    /// What the table's addresses point to.
    segments: Vec<Arc<SegmentImage>>,
    sizes: HeadSizes,
    segment_bytes: usize,
    /// Of the table, what says where segments lie.
    pointer_bytes: usize,
}

/// One segment, of centroids or of clusters: its parts in one buffer.
struct SegmentImage {
    /// Keeps the memory that the addresses lie in.
    buffer: DeviceBuffer<u8>,
    addresses: [u64; 5],
}

/// Segments that are on the device, as long as a head there has them.
#[derive(Default)]
pub struct HeadImages {
    centroids: Segments<CentroidSegment>,
    clusters: Segments<TailSegment>,
}

/// By the core's own address, which nobody else gets as long as there is a `Weak` to it.
struct Segments<T>(HashMap<usize, (Weak<T>, Weak<SegmentImage>)>);

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl HeadImage {
    /// Where the kernels find it.
    pub fn address(&self) -> u64 {
        self.table.span().address()
    }

    pub fn sizes(&self) -> HeadSizes {
        self.sizes
    }

    /// Bytes of device memory (what heads share is counted in full).
    pub fn bytes(&self) -> usize {
        self.table.len() + self.segment_bytes
    }

    /// What says where segments lie.
    pub fn pointers(&self) -> Span<u8> {
        self.table.span().part(0..self.pointer_bytes)
    }

    /// The other memory: all numbers of the index.
    pub fn numbers(&self) -> impl Iterator<Item = Span<u8>> + '_ {
        let of_table = self.table.span().part(self.pointer_bytes..self.table.len());
        std::iter::once(of_table).chain(self.segments.iter().map(|segment| segment.buffer.span()))
    }
}

impl HeadImages {
    /// Brings a head to the device; of its segments, those that are not there yet.
    ///
    /// # Errors
    /// As the copies.
    pub fn image(&mut self, device: &Device, head: &CtkvrHead) -> Result<HeadImage> {
        let index = &head.index;
        let (start, end, scores_all) = (index.start(), index.end(), head.scores_all());
        let mut segments = Vec::new();
        let (mut centroid_tables, mut cluster_tables, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let mut num_centroids = 0;
        // A head that scores every key has none.
        for segment in index.active().iter().filter(|s| s.num_centroids() > 0) {
            let image = self.centroids.get(segment, |segment| centroid_image(device, segment))?;
            let [codes, scales, list_offsets, list_bytes, _] = image.addresses;
            let (num, len, per_list) =
                (segment.num_centroids() as u32, (segment.end - segment.start) as u32, segment.per_list as u32);
            centroid_tables.push(CentroidTable {
                codes,
                scales,
                list_offsets,
                list_bytes,
                first: num_centroids,
                num,
                len,
                per_list,
            });
            num_centroids += num;
            segments.push(image);
        }
        let (mut num_clusters, mut mean_bytes) = (0, 0);
        for segment in index.tail().map_or(&[][..], |tail| tail.segments()) {
            let image = self.clusters.get(segment, |segment| cluster_image(device, segment))?;
            let [keys, values, member_offsets, members, cluster_of] = image.addresses;
            let (first, num) = (num_clusters, segment.num_clusters() as u32);
            let (start, len) = ((segment.start - start) as u32, segment.cluster_of.len() as u32);
            let is_q8 = u32::from(segment.means().format() == KvFormat::Q8);
            cluster_tables.push(ClusterTable {
                keys,
                values,
                member_offsets,
                members,
                cluster_of,
                first,
                num,
                start,
                len,
                is_q8,
                reserved: 0,
            });
            counts.extend(segment.counts());
            num_clusters += num;
            mean_bytes += num * segment.means().row_bytes() as u32;
            segments.push(image);
        }

        let mut parts = Parts::default();
        // Its place is kept; what it says is known once all parts are.
        parts.add(&[HeadTable::default()]);
        let offsets = [
            parts.add(&centroid_tables),
            parts.add(&cluster_tables),
            parts.add(&counts),
            parts.add(index.tail().map_or(&[][..], |tail| tail.corrections())),
        ];
        let table = DeviceBuffer::new(device, parts.bytes.len())?;
        let [_, _, pointer_bytes, _] = offsets;
        let [centroid_segments, cluster_segments, counts, corrections] = offsets.map(|offset| table.span().address() + offset);
        let search = head.search_options();
        let sizes = HeadSizes {
            region: end - start,
            num_centroids: num_centroids as usize,
            num_probes: if scores_all { 0 } else { search.num_probes.min(num_centroids as usize) },
            num_clusters: num_clusters as usize,
        };
        parts.set_first(HeadTable {
            centroid_segments,
            cluster_segments,
            counts,
            corrections,
            num_centroid_segments: centroid_tables.len() as u32,
            num_cluster_segments: cluster_tables.len() as u32,
            num_centroids,
            num_clusters,
            start: start as u32,
            end: end as u32,
            num_probes: sizes.num_probes as u32,
            cluster_probes: head.num_read_clusters().min(num_clusters as usize) as u32,
            similarity_floor: index.figures().similarity_floor,
            scores_all: u32::from(scores_all),
            has_tail: u32::from(index.tail().is_some()),
            mean_bytes,
        });
        device.compute().copy_in(table.span(), &parts.bytes)?;
        let segment_bytes = segments.iter().map(|s| s.buffer.len()).sum();
        Ok(HeadImage { table, segments, sizes, segment_bytes, pointer_bytes: pointer_bytes as usize })
    }
}

impl<T> Segments<T> {
    /// The image of a segment: the one that is there, or the one that `make` makes.
    fn get(&mut self, segment: &Arc<T>, make: impl FnOnce(&T) -> Result<SegmentImage>) -> Result<Arc<SegmentImage>> {
        let key = Arc::as_ptr(segment) as usize;
        if let Some(image) = self.0.get(&key).and_then(|(_, image)| image.upgrade()) {
            return Ok(image);
        }
        self.0.retain(|_, (_, image)| image.strong_count() > 0);
        let image = Arc::new(make(segment)?);
        self.0.insert(key, (Arc::downgrade(segment), Arc::downgrade(&image)));
        Ok(image)
    }
}

fn centroid_image(device: &Device, segment: &CentroidSegment) -> Result<SegmentImage> {
    let mut parts = Parts::default();
    let (bytes, offsets) = segment.lists.parts();
    let addresses = [parts.add(&segment.pooled.codes), parts.add(&segment.pooled.scales), parts.add(offsets), parts.add(bytes), 0];
    SegmentImage::new(device, &parts, addresses)
}

fn cluster_image(device: &Device, segment: &TailSegment) -> Result<SegmentImage> {
    let mut parts = Parts::default();
    let (offsets, members) = segment.member_lists();
    let [keys, values] = match segment.means() {
        ClusterMeans::Exact { keys, values } => [parts.add(keys.values()), parts.add(values.values())],
        // Pages, of both.
        ClusterMeans::Rounded(pages) => [parts.add(pages.words()); 2],
    };
    let addresses = [keys, values, parts.add(offsets), parts.add(members), parts.add(&segment.cluster_of)];
    SegmentImage::new(device, &parts, addresses)
}

impl SegmentImage {
    /// `offsets`: where the parts begin.
    fn new(device: &Device, parts: &Parts, offsets: [u64; 5]) -> Result<Self> {
        let buffer = DeviceBuffer::from_slice(device, &parts.bytes)?;
        let first = buffer.span().address();
        Ok(Self { buffer, addresses: offsets.map(|offset| first + offset) })
    }
}

/// Arrays of numbers one behind the other, each from a multiple of [`Parts::ALIGNMENT`] on, and the last one's end as well: kernels read whole
/// 16 bytes.
#[derive(Default)]
struct Parts {
    bytes: Vec<u8>,
}

impl Parts {
    const ALIGNMENT: usize = 16;

    /// Adds an array; returns where it begins.
    fn add<T: Plain>(&mut self, values: &[T]) -> u64 {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(bytes_of(values));
        self.bytes.resize(self.bytes.len().next_multiple_of(Self::ALIGNMENT), 0);
        offset as u64
    }

    /// Overwrites the array that was added first, of one value.
    fn set_first<T: Plain>(&mut self, value: T) {
        self.bytes[..size_of::<T>()].copy_from_slice(bytes_of(&[value]));
    }
}

fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: the values' own memory, all of it initialised, as there is no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}
