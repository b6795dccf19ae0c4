//! How an index is made and follows its text: the first segment, one more, and the way back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_kernels::{Kernels, Rows};

use crate::error::Result;
use crate::index::centroid_index::{ACTIVE_HALVES, CentroidIndex, HELD_HALVES, IndexFigures};
use crate::index::centroid_segment::CentroidSegment;
use crate::index::options::CtkvrSearchOptions;
use crate::index::region_sampler::RegionSampler;
use crate::index::segment_builder::{SegmentInput, build_segment};
use crate::index::volatility::{MeterReading, VolatilityMeter};
use crate::options::BuildOptions;
use crate::tail::Tail;

/// What the first segment's build takes besides.
pub struct FirstInput<'a> {
    /// Keys that are read whatever the index says: sinks, window.
    pub always: [Rows<'a>; 2],
    pub options: BuildOptions,
    /// The build looks its own queries up as a step would.
    pub search: CtkvrSearchOptions,
}

impl CentroidIndex {
    /// Builds the first segment on the calling thread. Also returns how sharply the head looks far back
    /// ([`MeterReading::sharpness`]), which tells heads apart.
    pub fn build(kernels: &Kernels, input: &SegmentInput, first: FirstInput, cancel: &AtomicBool) -> Result<(Self, f32)> {
        let plan = &input.plan;
        let (rows, place) = ((&input.keys, &input.values), (plan.region.start, plan.made_at));
        let tail = |clusters| Tail::build(kernels, rows, place, (plan.group, clusters), cancel);
        let tail = input.clusters.map(tail).transpose()?;
        let meter = VolatilityMeter::new(kernels, plan, &first.search, tail.as_ref());
        let mut sampler = RegionSampler::new(kernels, meter, first.always);
        let segment = build_segment(kernels, input, Some(&mut sampler), cancel)?;
        let reading = sampler.meter.reading(plan.group);
        let sharpness = reading.sharpness;
        Ok((Self::first(segment, tail, reading, &first.options), sharpness))
    }

    /// The index of a first segment, and of what its queries told.
    pub fn first(segment: CentroidSegment, mut tail: Option<Tail>, reading: MeterReading, options: &BuildOptions) -> Self {
        let figures = IndexFigures {
            num_base: options.base_count(segment.num_centroids()),
            known_from: 0,
            volatility: reading.volatility,
            similarity_floor: reading.similarity_floor,
        };
        if let Some(tail) = &mut tail {
            tail.correct(reading.corrections);
        }
        Self { segments: vec![Arc::new(segment)], active_from: 0, figures, tail }
    }

    /// This index over a longer region, or the same.
    pub fn extended(&self, kernels: &Kernels, input: &SegmentInput, cancel: &AtomicBool) -> Result<Self> {
        let plan = &input.plan;
        let segment = if self.is_bare() { plan.bare_segment() } else { build_segment(kernels, input, None, cancel)? };
        let new = segment.end - self.end();
        let grown = |tail: &Tail| {
            let first = input.keys.len() - new;
            let rows = (&input.keys.part(first, new), &input.values.part(first, new));
            tail.extended(kernels, rows, (self.end(), plan.made_at), cancel)
        };
        let tail = self.tail.as_ref().map(grown).transpose()?;
        Ok(self.with_segment(segment, tail))
    }

    /// This index with one more segment, without the oldest ones where they would be too many, and with another tail.
    pub fn with_segment(&self, segment: CentroidSegment, tail: Option<Tail>) -> Self {
        let mut grown = Self { tail, ..self.clone() };
        let made_at = segment.made_at;
        grown.segments.push(Arc::new(segment));
        while grown.newest_within(grown.segments.len(), HELD_HALVES) > 0 {
            let last_use = (1..grown.segments.len()).find(|&r| grown.newest_within(r + 1, ACTIVE_HALVES) > 0);
            grown.figures.known_from = last_use.map_or(made_at, |r| grown.segments[r].made_at);
            grown.segments.remove(0);
        }
        grown.active_from = grown.newest_within(grown.segments.len(), ACTIVE_HALVES);
        grown
    }

    /// This index as it was when only `len` tokens were stored; `None` when that is not known, or there was none.
    pub fn truncated(&self, len: usize) -> Option<Self> {
        let keep = self.segments.partition_point(|b| b.made_at <= len);
        if keep == 0 || len < self.figures.known_from {
            return None;
        }
        let mut cut = Self { segments: self.segments[..keep].to_vec(), ..self.clone() };
        cut.active_from = cut.newest_within(keep, ACTIVE_HALVES);
        cut.tail = self.tail.as_ref().map(|tail| tail.truncated(len));
        Some(cut)
    }
}
