//! What sampled queries tell of a head that is built for the first time: looked up on the host, their weights over keys added up on the device.

use std::ops::Range;

use ctkvr_core::Result;
use ctkvr_core::index::centroid_segment::CentroidSegment;
use ctkvr_core::index::segment_plan::SegmentPlan;
use ctkvr_core::index::volatility::{MeterReading, SampledHead, VolatilityMeter};
use ctkvr_core::sequence::index_builder::in_parallel;
use ctkvr_core::tail::Tail;
use ctkvr_kernels::MissedSums;

use super::lists::{HeadLists, narrowed};
use super::room::{Parts, read};
use super::{BuildMemory, DeviceBuilder, HeadBuild, core_error};
use crate::Span;
use crate::launch::build_lists::{ListTask, missed_len, splits_of};
use crate::launch::search_state::Total;

/// What is made of all heads so far.
pub(super) struct Made<'a> {
    pub plans: &'a [SegmentPlan<'a>],
    pub segments: &'a [CentroidSegment],
    pub tails: &'a [Option<Tail>],
    pub lists: &'a [HeadLists],
}

/// One head's sampled queries, all looked up.
struct Sample<'a> {
    /// Its place among the heads.
    index: usize,
    head_offset: u64,
    region: Range<usize>,
    /// What every step reads: before the region and behind it.
    always: [Range<usize>; 2],
    meter: VolatilityMeter<'a>,
    /// f16 `[queries, group, head_dim]`.
    queries: Vec<u16>,
    /// Over the region, `[queries, group]`.
    totals: Vec<Total>,
    /// What the tail says of each that was not found, `[queries, group]`.
    tail_lse: Vec<f32>,
    /// A bit for each position that was found, `[queries, words_of(region)]`.
    found: Vec<u32>,
}

/// What the device added up.
struct Counted {
    /// f32 `[rows, missed_len(region)]`, sample by sample.
    missed: Vec<f32>,
    /// Of each sample of all rows over the positions before the region, then over those behind it.
    always: Vec<Total>,
}

impl DeviceBuilder<'_> {
    /// Of each head that is built for the first time.
    pub(super) fn readings(&self, memory: &mut BuildMemory, heads: &[HeadBuild], made: &Made) -> Result<Vec<Option<MeterReading>>> {
        let first: Vec<usize> = (0..heads.len()).filter(|&i| heads[i].before.is_none()).collect();
        let looked_up = |i: usize| {
            self.check_cancel()?;
            self.looked_up(&heads[first[i]], first[i], made)
        };
        let mut samples = in_parallel(first.len(), self.num_threads, None, looked_up)?;
        if samples.iter().any(|sample| !sample.totals.is_empty()) {
            self.check_cancel()?;
            let counted = self.count(memory, &samples).map_err(core_error)?;
            self.add(&mut samples, &counted);
        }
        let mut readings: Vec<Option<MeterReading>> = heads.iter().map(|_| None).collect();
        samples.iter().for_each(|sample| readings[sample.index] = Some(sample.meter.reading(self.group)));
        Ok(readings)
    }

    fn looked_up<'a>(&'a self, head: &HeadBuild, index: usize, made: &Made<'a>) -> Result<Sample<'a>> {
        let (plan, segment, lists) = (&made.plans[index], &made.segments[index], &made.lists[index]);
        let mut meter = VolatilityMeter::new(self.kernels, plan, &head.options.search, made.tails[index].as_ref());
        let (mut queries, mut totals, mut tail_lse, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let num_lists = if plan.region.is_empty() { 0 } else { plan.num_lists() };
        for list in 0..num_lists {
            let c = segment.middle_of(list);
            if meter.samples(list, c) {
                let looked_up = meter.look_up(segment, c, plan.query(c));
                queries.extend(narrowed(self.kernels, plan.query(c))?);
                totals.extend_from_slice(&lists.totals[c * plan.group..(c + 1) * plan.group]);
                tail_lse.extend(looked_up.tail_lse);
                found.extend(looked_up.found.chunks_exact(32).map(bits_of));
            }
        }
        let (region, head_offset) = (plan.region.clone(), self.head_offset(head));
        let always = [0..region.start, region.end..head.plan.len];
        Ok(Sample { index, head_offset, region, always, meter, queries, totals, tail_lse, found })
    }

    /// Has the device add up what all samples missed, and what is always read.
    fn count(&self, memory: &mut BuildMemory, samples: &[Sample]) -> crate::Result<Counted> {
        let device = self.device;
        let found: Vec<u32> = samples.iter().flat_map(|sample| sample.found.iter().copied()).collect();
        let queries: Vec<u16> = samples.iter().flat_map(|sample| sample.queries.iter().copied()).collect();
        let maxima: Vec<Total> = samples.iter().flat_map(|sample| sample.totals.iter().copied()).collect();
        let rows = maxima.len();
        // The region's, then, of the same rows, those of the two stretches that are always read.
        let totals = memory.totals.of(device, 3 * rows)?;
        device.compute().copy_in(totals.part(0..rows), &maxima)?;
        let missed = memory.missed.of(device, samples.iter().map(|of| of.totals.len() * missed_len(of.region.len())).sum())?;
        let always = totals.part(rows..3 * rows);
        let partials = |of: &Sample| of.always.iter().map(|part| of.totals.len() * splits_of(part.len())).sum::<usize>();
        let mut of_partials = Parts::of(memory.partials.of(device, samples.iter().map(partials).sum())?);
        let mut of_queries = Parts::of(memory.queries.filled(device, &queries)?);
        let mut of_found = Parts::of(memory.found.filled(device, &found)?);
        let (mut of_missed, mut of_maxima, mut of_always) = (Parts::of(missed), Parts::of(totals.part(0..rows)), Parts::of(always));
        let (mut regions, mut stretches) = (Vec::new(), Vec::new());
        for sample in samples {
            let rows = sample.totals.len();
            let task = ListTask {
                pages: self.pages,
                head_offset: sample.head_offset,
                queries: of_queries.next(sample.queries.len()),
                partials: Span::EMPTY,
                totals: of_maxima.next(rows),
                weights: Span::EMPTY,
                selected: Span::EMPTY,
                found: of_found.next(sample.found.len()),
                missed: of_missed.next(rows * missed_len(sample.region.len())),
                positions: sample.region.clone(),
                group: self.group,
                rows_per_list: self.group,
                list_len: 0,
            };
            for positions in &sample.always {
                let partials = of_partials.next(rows * splits_of(positions.len()));
                stretches.push(ListTask { partials, totals: of_always.next(rows), positions: positions.clone(), ..task.clone() });
            }
            regions.push(task);
        }
        self.on_device(memory, &regions)?.missed()?;
        self.on_device(memory, &stretches)?.totals()?;
        Ok(Counted { missed: read(device, missed)?, always: read(device, always)? })
    }

    /// Tells the meters what the device added up.
    fn add(&self, samples: &mut [Sample], counted: &Counted) {
        let (mut missed, mut always) = (&counted.missed[..], &counted.always[..]);
        for sample in samples {
            let (rows, of_row) = (sample.totals.len(), missed_len(sample.region.len()));
            let own: &[f32];
            (own, missed) = missed.split_at(rows * of_row);
            let read: &[Total];
            (read, always) = always.split_at(2 * rows);
            let head = |row: usize| {
                let Total { max: maximum, sum } = sample.totals[row];
                let total = f64::from(sum) + sum_over(&read[row], maximum) + sum_over(&read[rows + row], maximum);
                SampledHead { maximum, total, missed: all_splits(&own[row * of_row..(row + 1) * of_row]) }
            };
            let heads: Vec<SampledHead> = (0..rows).map(head).collect();
            for (heads, tail_lse) in heads.chunks_exact(self.group).zip(sample.tail_lse.chunks_exact(self.group)) {
                sample.meter.count(tail_lse, heads);
            }
        }
    }
}

/// 32 marks as bits.
fn bits_of(marks: &[u8]) -> u32 {
    marks.iter().enumerate().fold(0, |bits, (i, mark)| bits | u32::from(*mark != 0) << i)
}

/// Sum of e^(score - maximum) of what has this total.
fn sum_over(total: &Total, maximum: f32) -> f64 {
    f64::from(total.sum) * f64::from(total.max - maximum).exp()
}

/// A row's weights of all splits.
fn all_splits(splits: &[f32]) -> MissedSums {
    splits.chunks_exact(3).fold(MissedSums::default(), |sums, part| MissedSums {
        all_squares: sums.all_squares + f64::from(part[0]),
        squares: sums.squares + f64::from(part[1]),
        sum: sums.sum + f64::from(part[2]),
    })
}
