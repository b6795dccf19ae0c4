//! Slots of decoded rows, each with a sequence of its own, and what they read.

use ctkvr_core::attention::decode::Layout;
use ctkvr_cuda::launch::attend::{Attend, partial_len};
use ctkvr_cuda::launch::slot::SlotLayout;
use ctkvr_cuda::{Device, DeviceBuffer};
use ctkvr_kernels::{KvFormat, PageLayout};

use super::{Budget, Paged, Softmax, budget};
use ctkvr_kernels::testing::Random;

/// What a slot reads: sinks, so many listed ones of its region, window.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    pub len: usize,
    pub start: usize,
    pub end: usize,
    pub listed: usize,
}

impl Reads {
    pub fn all(len: usize) -> Self {
        Self { len, start: 0, end: 0, listed: 0 }
    }

    pub fn num_entries(self) -> usize {
        self.start + self.listed + self.len - self.end
    }
}

/// Slots of one launch, each with a sequence of its own.
pub struct Case {
    pub layout: PageLayout,
    pub group: usize,
    pub reads: Vec<Reads>,
    pub sequences: Vec<Paged>,
    /// KV head of each slot.
    pub heads: Vec<usize>,
    pub queries: Vec<f32>,
    /// Listed positions of each slot.
    pub listed: Vec<Vec<u32>>,
}

const NUM_HEADS: usize = 3;

impl Case {
    pub fn new(device: &Device, random: &mut Random, layout: PageLayout, group: usize, reads: &[Reads]) -> Self {
        let sequences = reads.iter().map(|r| Paged::new(device, random, layout, NUM_HEADS, r.len)).collect();
        let listed = reads.iter().map(|r| drawn(random, r.start..r.end, r.listed)).collect();
        let heads = reads.iter().map(|_| random.index(NUM_HEADS)).collect();
        let queries = random.values(reads.len() * group * layout.head_dim, 4.0);
        Self { layout, group, reads: reads.to_vec(), sequences, heads, queries, listed }
    }

    /// Softmax of a slot's query head over what it reads.
    pub fn softmax(&self, slot: usize, h: usize) -> Softmax {
        let Reads { len, start, end, .. } = self.reads[slot];
        let d = self.layout.head_dim;
        let query = &self.queries[(slot * self.group + h) * d..][..d];
        let listed = self.listed[slot].iter().map(|p| *p as usize);
        self.sequences[slot].attend(self.heads[slot], query, (0..start).chain(listed).chain(end..len))
    }

    /// Queries are taken to 2^-22 and rounded times the scale before; q8 values are rounded to f16.
    pub fn budget(&self, softmax: &Softmax) -> Budget {
        let value_rounding = if self.layout.format == KvFormat::Q8 { 2f64.powi(-11) } else { 0.0 };
        budget(softmax, 2f64.powi(-21), 2f64.powi(-22), value_rounding)
    }

    /// The layouts, lists and counts of some of the slots on the device.
    pub fn upload(&self, device: &Device, slots: &[usize], list_stride: usize) -> Uploaded {
        let d = self.layout.head_dim;
        let layouts: Vec<SlotLayout> = slots
            .iter()
            .map(|s| {
                let Reads { len, start, end, .. } = self.reads[*s];
                let layout = Layout { len, start, end, max_selected: 0, top_p: 1.0 };
                SlotLayout::new(&layout, self.sequences[*s].table(), (self.heads[*s] * self.layout.bytes()) as u64)
            })
            .collect();
        // Behind a list lie positions that no page has.
        let mut positions = vec![u32::MAX; slots.len() * list_stride];
        for (row, s) in positions.chunks_exact_mut(list_stride.max(1)).zip(slots) {
            row[..self.listed[*s].len()].copy_from_slice(&self.listed[*s]);
        }
        let counts: Vec<u32> = slots.iter().map(|s| self.listed[*s].len() as u32).collect();
        let queries: Vec<f32> = slots.iter().flat_map(|s| self.queries[s * self.group * d..][..self.group * d].to_vec()).collect();
        Uploaded {
            layouts: DeviceBuffer::from_slice(device, &layouts).unwrap(),
            positions: DeviceBuffer::from_slice(device, &positions).unwrap(),
            counts: DeviceBuffer::from_slice(device, &counts).unwrap(),
            queries: DeviceBuffer::from_slice(device, &queries).unwrap(),
        }
    }

    /// Partials of some of the slots `[slots, max_splits, partial_len]`.
    pub fn attend(&self, device: &Device, slots: &[usize], max_splits: usize) -> DeviceBuffer<f32> {
        let list_stride = self.listed.iter().map(Vec::len).max().unwrap_or(0) + 1;
        let uploaded = self.upload(device, slots, list_stride);
        let len = slots.len() * max_splits * partial_len(self.group, self.layout.head_dim);
        let partials = guarded(device, len);
        let attend = Attend {
            queries: uploaded.queries.span(),
            layouts: uploaded.layouts.span(),
            positions: uploaded.positions.span(),
            counts: uploaded.counts.span(),
            partials: partials.span().part(0..len),
            layout: self.layout,
            group: self.group,
            max_splits,
        };
        attend.launch(device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        partials
    }
}

pub struct Uploaded {
    pub layouts: DeviceBuffer<SlotLayout>,
    pub positions: DeviceBuffer<u32>,
    pub counts: DeviceBuffer<u32>,
    pub queries: DeviceBuffer<f32>,
}

/// Different positions of a range, in any order.
fn drawn(random: &mut Random, range: std::ops::Range<usize>, n: usize) -> Vec<u32> {
    let mut all: Vec<u32> = range.map(|p| p as u32).collect();
    (0..n).for_each(|i| {
        let j = i + random.index(all.len() - i);
        all.swap(i, j);
    });
    all.truncate(n);
    all
}

const GUARD: usize = 64;
/// What new device memory holds.
const POISON: u32 = 0xeeee_eeee;

/// Memory that ends with a guard.
pub fn guarded(device: &Device, len: usize) -> DeviceBuffer<f32> {
    DeviceBuffer::new(device, len + GUARD).unwrap()
}

pub fn is_poison(values: &[f32]) -> bool {
    values.iter().all(|x| x.to_bits() == POISON)
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}
