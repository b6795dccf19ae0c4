//! Sequences in pages on the stand-in's device, and what attention over them is, in f64.
pub mod slots;

use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout};

/// Largest magnitude of stored keys and values.
pub const MOST: f32 = 2.0;

/// A sequence's keys and values of some heads. Rows that are not stored are NaN.
pub struct Paged {
    pub layout: PageLayout,
    pub num_heads: usize,
    /// Host copy: pages of all heads, one after the other as `order` has them.
    bytes: Vec<u8>,
    /// Where the i-th page of the sequence lies in `bytes`.
    order: Vec<usize>,
    pages: DeviceBuffer<u8>,
    table: DeviceBuffer<u64>,
}

impl Paged {
    /// `len` positions of drawn values, in pages that lie in any order.
    pub fn new(device: &Device, random: &mut Random, layout: PageLayout, num_heads: usize, len: usize) -> Self {
        let num_pages = len.div_ceil(PAGE_SIZE).max(1);
        let page_bytes = num_heads * layout.bytes();
        let mut order: Vec<usize> = (0..num_pages).collect();
        (1..num_pages).for_each(|i| order.swap(i, random.index(i + 1)));
        let pages = DeviceBuffer::new(device, num_pages * page_bytes).unwrap();
        let addresses: Vec<u64> = order.iter().map(|page| pages.span().address() + (page * page_bytes) as u64).collect();
        let table = DeviceBuffer::from_slice(device, &addresses).unwrap();
        let mut paged = Self { layout, num_heads, bytes: vec![0xffu8; num_pages * page_bytes], order, pages, table };
        for position in 0..len {
            for head in 0..num_heads {
                let (key, value) = (random.values(layout.head_dim, MOST), random.values(layout.head_dim, MOST));
                paged.store(head, position, &key, &value);
            }
        }
        device.compute().copy_in(paged.pages.span(), &paged.bytes).unwrap();
        paged
    }

    /// The pages on the device.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn pages_span(&self) -> Span<u8> {
        self.pages.span()
    }

    /// Their table.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn table_span(&self) -> Span<u64> {
        self.table.span()
    }

    /// Device address of the page table.
    pub fn table(&self) -> u64 {
        self.table.span().address()
    }

    /// The pages as they are on the device, in any order: `[pages, heads, PageLayout::bytes()]`.
    pub fn stored(&self, device: &Device) -> Vec<u8> {
        self.pages.to_vec(device).unwrap()
    }

    /// As [`Self::stored`], what the host takes them to be.
    pub fn expected(&self) -> &[u8] {
        &self.bytes
    }

    /// Stores a position as the CPU does, in the host's copy alone.
    pub fn store(&mut self, head: usize, position: usize, key: &[f32], value: &[f32]) {
        let kernels = Kernels::named("scalar", self.layout.head_dim).unwrap();
        let at = (self.order[position / PAGE_SIZE] * self.num_heads + head) * self.layout.bytes();
        let page = self.bytes[at..at + self.layout.bytes()].as_mut_ptr();
        // SAFETY: the page is there and nobody else's; its start is aligned to 4, as a Vec's and a page's sizes are.
        unsafe { self.layout.store(kernels, page, position % PAGE_SIZE, key, value) };
    }

    /// A stored key or value.
    pub fn row(&self, side: KvSide, head: usize, position: usize) -> Vec<f64> {
        let page = (self.order[position / PAGE_SIZE] * self.num_heads + head) * self.layout.bytes();
        let (row, scales) = self.layout.offsets(side, position % PAGE_SIZE);
        let at = |offset: usize| &self.bytes[page + offset..];
        (0..self.layout.head_dim)
            .map(|d| match self.layout.format {
                KvFormat::F16 => half::f16::from_le_bytes([at(row + 2 * d)[0], at(row + 2 * d)[1]]).to_f64(),
                KvFormat::Q8 => {
                    let scale = at(scales + d / 32 * 4);
                    f64::from(at(row + d)[0] as i8) * f64::from(f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]))
                }
            })
            .collect()
    }

    /// Softmax of one query head over these positions.
    pub fn attend(&self, head: usize, query: &[f32], positions: impl Iterator<Item = usize>) -> Softmax {
        let d = self.layout.head_dim;
        let mut softmax = Softmax { values: vec![0.0; d], ..Softmax::default() };
        let mut read = Vec::new();
        for position in positions {
            let products = self.row(KvSide::Keys, head, position).into_iter().zip(query).map(|(k, q)| k * f64::from(*q));
            let (score, magnitude) = products.fold((0.0, 0.0), |(sum, all): (f64, f64), x| (sum + x, all + x.abs()));
            let scale = 1.0 / (d as f64).sqrt();
            read.push((position, score * scale));
            softmax.magnitude = softmax.magnitude.max(magnitude * scale);
        }
        softmax.max = read.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
        // Of no keys there is none.
        softmax.range = read.iter().map(|(_, score)| softmax.max - *score).fold(0.0, f64::max);
        for (position, score) in &read {
            let weight = (score - softmax.max).exp();
            softmax.sum += weight;
            let row = self.row(KvSide::Values, head, *position);
            softmax.values.iter_mut().zip(row).for_each(|(total, x)| *total += weight * x);
        }
        softmax.count = read.len();
        softmax
    }
}

/// Attention over some keys, not normalised, and what its rounding errors depend on.
#[derive(Default, Clone, Debug)]
pub struct Softmax {
    pub max: f64,
    /// Sum of e^(score - max), and of that times the value `[head_dim]`.
    pub sum: f64,
    pub values: Vec<f64>,
    pub count: usize,
    /// Largest sum over a key's products of their magnitudes; largest minus smallest score.
    pub magnitude: f64,
    pub range: f64,
}

impl Softmax {
    pub fn lse(&self) -> f64 {
        self.max + self.sum.ln()
    }
}

/// What f32 arithmetic may be off by, for a softmax of n keys whose products are exact but for `rounding` (of each product, relative), with a
/// unit of u = 2^-24:
/// - a score is a sum of D products, 16 at a time: no product passes through more than D / 16 + 16 sums, and 4 more of its parts: its
///   magnitude times that, and its operands' rounding;
/// - a weight e^(score - max) is off by that (the maximum's own error is in the sum's as well, and cancels), by 2 range u + 4 u of the
///   exponential, and by its own rounding;
/// - a weight passes through at most n / 4 sums (a quarter of a row's keys each lane of prefill_attend has), a weighted value through n / 16 + 16
///   and a product for each chunk of 64; splits are merged with as few again;
/// - an output is a mean of values whose weights are off so, each at most MOST from 0, so twice MOST from their mean.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of a sum of weights, relative: of a log-sum-exp, absolute.
    pub weight: f64,
    /// Of an output value, absolute.
    pub value: f64,
}

/// `rounding`: of each product of a score, relative; `weight_rounding` and `value_rounding`: of a weight and a value.
pub fn budget(softmax: &Softmax, rounding: f64, weight_rounding: f64, value_rounding: f64) -> Budget {
    let (d, n, unit) = (softmax.values.len() as f64, softmax.count as f64, 2f64.powi(-24));
    let score = softmax.magnitude * ((d / 16.0 + 20.0) * unit + rounding);
    let weight = score + (2.0 * softmax.range + 4.0) * unit + (n / 4.0 + 40.0) * unit + weight_rounding;
    Budget { weight, value: f64::from(MOST) * (2.0 * weight + value_rounding) + unit }
}
