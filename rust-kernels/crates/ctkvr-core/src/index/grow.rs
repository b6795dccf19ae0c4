//! How an index is made and follows its text: the first segment, one more, and the way back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_kernels::Kernels;

use crate::error::Result;
use crate::index::centroid_index::{ACTIVE_HALVES, CentroidIndex, HELD_HALVES, IndexFigures};
use crate::index::centroid_segment::CentroidSegment;
use crate::index::segment_builder::{SegmentInput, build_segment};
use crate::index::volatility::{FirstInput, VolatilityMeter};
use crate::tail::Tail;

impl CentroidIndex {
    /// Builds the first segment on the calling thread. Also returns how sharply the head looks far back
    /// ([`VolatilityMeter::sharpness`]), which tells heads apart.
    pub fn build(kernels: &Kernels, input: &SegmentInput, first: FirstInput, cancel: &AtomicBool) -> Result<(Self, f32)> {
        let num_first = input.queries.len() / (input.group * input.keys.head_dim()).max(1);
        let rows = (&input.keys, &input.values);
        let place = (input.start, input.made_at);
        let tail = |clusters| Tail::build(kernels, rows, place, (input.group, clusters), cancel);
        let mut tail = input.clusters.map(tail).transpose()?;
        let counts = (num_first, CentroidSegment::num_lists_of(num_first, input.per_list));
        let mut meter = VolatilityMeter::new(kernels, &first, tail.as_ref(), counts, input.centroids_per_pass());
        let segment = build_segment(kernels, input, Some(&mut meter), cancel)?;
        let figures = IndexFigures {
            num_base: first.options.base_count(num_first),
            known_from: 0,
            volatility: meter.volatility(),
            similarity_floor: meter.similarity_floor(),
        };
        let sharpness = meter.sharpness();
        let corrections = meter.corrections(input.group);
        if let Some(tail) = &mut tail {
            tail.correct(corrections);
        }
        Ok((Self { segments: vec![Arc::new(segment)], active_from: 0, figures, tail }, sharpness))
    }

    /// This index with one more segment, and without the oldest ones where they would be too many.
    pub fn extended(&self, kernels: &Kernels, input: &SegmentInput, cancel: &AtomicBool) -> Result<Self> {
        let mut grown = self.clone();
        let segment = if self.is_bare() { input.bare_segment() } else { build_segment(kernels, input, None, cancel)? };
        let new = segment.end - self.end();
        if let Some(tail) = &self.tail {
            let first = input.keys.len() - new;
            let rows = (&input.keys.part(first, new), &input.values.part(first, new));
            grown.tail = Some(tail.extended(kernels, rows, (self.end(), input.made_at), cancel)?);
        }
        grown.segments.push(Arc::new(segment));
        while grown.newest_within(grown.segments.len(), HELD_HALVES) > 0 {
            let last_use = (1..grown.segments.len()).find(|&r| grown.newest_within(r + 1, ACTIVE_HALVES) > 0);
            grown.figures.known_from = last_use.map_or(input.made_at, |r| grown.segments[r].made_at);
            grown.segments.remove(0);
        }
        grown.active_from = grown.newest_within(grown.segments.len(), ACTIVE_HALVES);
        Ok(grown)
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
