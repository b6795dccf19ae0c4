//! Attention of decoded rows and of prompts, and the merge.

use crate::paged::Paged;
use crate::paged::slots::{Case, Reads};
use crate::{counted, traffic};
use ctkvr_core::retriever::ProposedTail;
use ctkvr_cuda::launch::attend::{self, Attend, SlotReads, partial_len, splits_of};
use ctkvr_cuda::launch::merge::{self, Merge, MergeWork};
use ctkvr_cuda::launch::prefill_attend::{self, PrefillAttend, RowTile, push_tiles};
use ctkvr_cuda::launch::search_state::{Total, tail_code};
use ctkvr_cuda::launch::slot::{RowPlace, SlotLayout};
use ctkvr_cuda::launch::traffic::{SlotShape, Traffic};
use ctkvr_cuda::stand_in::ledger::Memory;
use ctkvr_cuda::stand_in::{Session, session};
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{KvFormat, PageLayout};

/// Slots that read everything, nothing, parts of a split and more than one, on both sides of a page's end.
const READS: [Reads; 7] = [
    Reads { len: 1, start: 0, end: 0, listed: 0 },
    Reads { len: 257, start: 0, end: 0, listed: 0 },
    Reads { len: 300, start: 0, end: 300, listed: 0 },
    Reads { len: 300, start: 0, end: 300, listed: 17 },
    Reads { len: 513, start: 4, end: 500, listed: 111 },
    Reads { len: 513, start: 4, end: 500, listed: 112 },
    Reads { len: 600, start: 16, end: 500, listed: 250 },
];

const SHAPES: [(usize, usize, KvFormat); 8] = [
    (64, 3, KvFormat::F16),
    (64, 7, KvFormat::Q8),
    (96, 9, KvFormat::F16),
    (96, 1, KvFormat::Q8),
    (128, 4, KvFormat::F16),
    (128, 16, KvFormat::Q8),
    (256, 2, KvFormat::F16),
    (256, 8, KvFormat::Q8),
];

/// Says what the memory of sequences is.
fn tell(session: &Session, sequences: &[Paged]) {
    for sequence in sequences {
        session.memory(sequence.pages_span(), Memory::Stored);
        session.memory(sequence.table_span(), Memory::Bookkeeping);
    }
}

#[test]
fn decoded_rows() {
    let session = session();
    let device = Device::open_with(0, &[attend::FAMILY]).unwrap();
    for (head_dim, group, format) in SHAPES {
        let layout = PageLayout { head_dim, format };
        let case = Case::new(&device, &mut Random(3), layout, group, &READS);
        let slots: Vec<usize> = (0..READS.len()).collect();
        let uploaded = case.upload(&device, &slots, 251);
        let max_splits = READS.iter().map(|reads| splits_of(reads.num_entries())).max().unwrap() + 1;
        let partials = DeviceBuffer::new(&device, slots.len() * max_splits * partial_len(group, head_dim)).unwrap();
        tell(&session, &case.sequences);
        session.memory(uploaded.layouts.span(), Memory::Bookkeeping);
        session.memory(uploaded.counts.span(), Memory::Bookkeeping);
        let attend = Attend {
            queries: uploaded.queries.span(),
            layouts: uploaded.layouts.span(),
            positions: uploaded.positions.span(),
            counts: uploaded.counts.span(),
            partials: partials.span(),
            layout,
            group,
            max_splits,
        };
        attend.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let format = if format == KvFormat::F16 { "f16" } else { "q8" };
        let counted = counted(&session, &[&format!("attend_{format}_d{head_dim}_h{}", if group <= 8 { 8 } else { 16 })]);
        let shape = SlotShape { layout, group };
        let reads = READS.map(|reads| SlotReads { entries: reads.num_entries(), listed: reads.listed });
        let expected: Traffic = reads.iter().map(|reads| reads.traffic(&shape)).sum();
        assert_eq!(traffic(&counted), expected, "{shape:?}");
        let by_blocks: usize = reads.iter().map(|reads| reads.by_blocks(&shape)).sum();
        assert_eq!(counted.by_blocks as usize, by_blocks, "{shape:?}: by blocks");
        // Layouts, counts and tables of pages.
        assert!(counted.bookkeeping as usize <= slots.len() * (40 + 4 + 3 * 8), "{counted:?}");
    }
}

#[test]
fn merged_splits() {
    let session = session();
    let device = Device::open_with(0, &[merge::FAMILY]).unwrap();
    for (i, (head_dim, group, format)) in SHAPES.into_iter().enumerate() {
        let shape = SlotShape { layout: PageLayout { head_dim, format }, group };
        let case = Case::new(&device, &mut Random(4), shape.layout, group, &READS);
        let slots: Vec<usize> = (0..READS.len()).collect();
        let uploaded = case.upload(&device, &slots, 251);
        let (n, max_splits) = (slots.len(), 6);
        let kinds: Vec<ProposedTail> =
            slots.iter().map(|slot| [ProposedTail::None, ProposedTail::Given, ProposedTail::Scored][slot % 3]).collect();
        let codes: Vec<u32> = kinds.iter().copied().map(tail_code).collect();
        let kinds_on_device = DeviceBuffer::from_slice(&device, &codes).unwrap();
        // Of every second head nothing is left.
        let heads = 0..n * group;
        let lse: Vec<f32> = heads.clone().map(|row| if row % 2 == 0 { 1.0 } else { f32::NEG_INFINITY }).collect();
        let nothing = Total { max: f32::NEG_INFINITY, sum: 0.0 };
        let totals: Vec<Total> = heads.map(|row| if row % 2 == 0 { Total { max: 1.0, sum: 2.0 } } else { nothing }).collect();
        let (has_host, has_tails) = (i % 2 == 0, i % 3 != 2);
        // What the host gives has totals of its own.
        let of_slot = |totals: &[Total]| {
            let totals = totals.iter().flat_map(|total| [total.max, total.sum]);
            std::iter::repeat_n(0.0, partial_len(group, head_dim)).chain(totals).collect::<Vec<f32>>()
        };
        let host: Vec<f32> = totals.chunks_exact(group).flat_map(of_slot).collect();
        let layouts: Vec<SlotLayout> = uploaded.layouts.to_vec(&device).unwrap();
        let layouts: Vec<_> = layouts.into_iter().map(|of| if has_host { of.on_host() } else { of }).collect();
        let (host, layouts) =
            (DeviceBuffer::from_slice(&device, &host).unwrap(), DeviceBuffer::from_slice(&device, &layouts).unwrap());
        let (lse, totals) = (DeviceBuffer::from_slice(&device, &lse).unwrap(), DeviceBuffer::from_slice(&device, &totals).unwrap());
        let zeros = |len: usize| DeviceBuffer::<f32>::zeroed(&device, len).unwrap();
        let partials = zeros(n * max_splits * partial_len(group, head_dim));
        let (tail_value, out) = (zeros(n * group * head_dim), zeros(n * group * head_dim));
        let of_heads: [DeviceBuffer<f32>; 3] = [(); 3].map(|()| zeros(n * group));
        for bookkeeping in [uploaded.counts.span(), kinds_on_device.span()] {
            session.memory(bookkeeping, Memory::Bookkeeping);
        }
        session.memory(layouts.span(), Memory::Bookkeeping);
        let merge = Merge {
            layouts: layouts.span(),
            counts: uploaded.counts.span(),
            partials: partials.span(),
            host: if has_host { host.span() } else { Span::EMPTY },
            tail_kinds: if has_tails { kinds_on_device.span() } else { Span::EMPTY },
            tail_lse: if has_tails { lse.span() } else { Span::EMPTY },
            tail_value: if has_tails { tail_value.span() } else { Span::EMPTY },
            dropped: if has_tails { totals.span() } else { Span::EMPTY },
            out: out.span(),
            shares: of_heads[0].span(),
            read_lse: of_heads[1].span(),
            total_lse: of_heads[2].span(),
            head_dim,
            group,
            max_splits,
        };
        merge.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let work = |slot: usize| {
            let with_rest = (slot * group..(slot + 1) * group).filter(|row| row % 2 == 0).count();
            MergeWork {
                splits: splits_of(READS[slot].num_entries()),
                has_host,
                has_dropped: has_tails || has_host,
                given_tails: if has_tails && kinds[slot] == ProposedTail::Given { group } else { 0 },
                tail_values: if has_tails && kinds[slot] != ProposedTail::None { with_rest } else { 0 },
            }
        };
        let expected: Traffic = slots.iter().map(|slot| work(*slot).traffic(&shape)).sum();
        assert_eq!(traffic(&counted(&session, &["merge_partials"])), expected, "{shape:?}");
    }
}

#[test]
fn rows_of_prompts() {
    let session = session();
    let device = Device::open_with(0, &[prefill_attend::FAMILY]).unwrap();
    let (first_head, num_kv_heads) = (1, 2);
    for (head_dim, group, format) in SHAPES {
        let layout = PageLayout { head_dim, format };
        // Rows from these positions on, of two sequences.
        let runs = [(200, 270), (0, 33)];
        let sequences = runs.map(|(_, end)| Paged::new(&device, &mut Random(6), layout, first_head + num_kv_heads, end));
        let (mut places, mut tiles) = (Vec::new(), Vec::new());
        for ((first, end), sequence) in runs.iter().zip(&sequences) {
            push_tiles(&mut tiles, places.len()..places.len() + end - first, group);
            let pages = sequence.table();
            places.extend((*first..*end).map(|position| RowPlace { pages, position: position as u32, reserved: 0 }));
        }
        let end_of = |tile: &RowTile| places[tile.first_row as usize].position as usize + tile.num_rows as usize;
        let ends: Vec<usize> = tiles.iter().map(end_of).collect();
        let len = places.len() * num_kv_heads * group * head_dim;
        let (queries, out) = (DeviceBuffer::zeroed(&device, len).unwrap(), DeviceBuffer::new(&device, len).unwrap());
        let places = DeviceBuffer::from_slice(&device, &places).unwrap();
        let tiles = DeviceBuffer::from_slice(&device, &tiles).unwrap();
        tell(&session, &sequences);
        session.memory(places.span(), Memory::Bookkeeping);
        session.memory(tiles.span(), Memory::Bookkeeping);
        let attend = PrefillAttend {
            queries: queries.span(),
            places: places.span(),
            tiles: tiles.span(),
            out: out.span(),
            layout,
            first_head,
            num_kv_heads,
            group,
        };
        attend.launch(&device, device.compute()).unwrap();
        device.compute().wait().unwrap();
        let kernel = format!("prefill_attend_{}_d{head_dim}", if format == KvFormat::F16 { "f16" } else { "q8" });
        let counted = counted(&session, &[&kernel]);
        assert_eq!(traffic(&counted), attend.traffic(&runs.map(|(_, end)| end)), "{kernel}, group {group}");
        assert_eq!(counted.by_blocks as usize, attend.by_blocks(&ends), "{kernel}, group {group}: by blocks");
    }
}
