//! Tables of a step: where the device finds the pages of each sequence, for layers on the device and for those in host memory.

use std::collections::HashSet;

use ctkvr_core::Phase;
use ctkvr_core::kv::pool::PageId;
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_engine::{BatchRows, Result};
use ctkvr_kernels::PAGE_SIZE;

use crate::batch_part::BatchPart;
use crate::head_cache::scores_all;
use crate::kv_pool::DeviceKvPool;
use crate::placed_page::{Copies, PlacedPage};

/// Where the tables of one sequence begin, on the device. Layers in host memory have theirs only where there are such layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceTables {
    /// Layers on the device.
    pub device: u64,
    /// Of a decode: the host's heads where the device reads and writes them, and where the host does.
    pub recent: u64,
    pub host: u64,
    /// Of a decode, by head: of those that score every key, each page where it is on the device.
    pub heads: Vec<(usize, u64)>,
}

impl SequenceTables {
    pub fn of_head(&self, head: usize) -> u64 {
        let place = self.heads.binary_search_by_key(&head, |(head, _)| *head);
        self.heads[place.expect("tables have every head that scores all keys")].1
    }
}

/// What a sequence's decoded token reads of the host's layers on the device.
struct Reads {
    /// Heads that score every key, counted among the host's.
    heads: Vec<usize>,
    /// Positions that some head chooses from: outside of it all heads are read.
    region: std::ops::Range<usize>,
}

impl Reads {
    /// `None` where everything is the host's.
    fn of(pool: &DeviceKvPool, of: &BatchRows) -> Option<Self> {
        let (sequence, placement) = (&*of.sequence, pool.placement());
        if of.append.phase != Phase::Decode || !placement.has_hybrid_layers() {
            return None;
        }
        let plan: DecodePlan = sequence.decode_plan();
        let mut end = plan.layout.end;
        let mut heads = Vec::new();
        for head in placement.host_heads() {
            let state = sequence.indexed_head(&plan, head)?;
            end = end.min(state.end);
            if scores_all(state) {
                heads.push(placement.of_host(head));
            }
        }
        Some(Self { heads, region: plan.layout.start..end })
    }

    /// Whether a page lies inside the region.
    fn holds(&self, page: usize) -> bool {
        self.region.start <= page * PAGE_SIZE && (page + 1) * PAGE_SIZE <= self.region.end
    }
}

/// Sees to it that pages of host memory have the copies on the device that a part's rows need, and drops what nobody needs.
///
/// # Errors
/// `OutOfMemory`, `DeviceLost`.
pub(crate) fn place_copies(pool: &DeviceKvPool, part: &BatchPart) -> Result<()> {
    if !pool.placement().has_hybrid_layers() {
        return Ok(());
    }
    let mut recent = HashSet::<PageId>::new();
    let mut inside = Vec::new();
    for of in part.sequences() {
        let pages = of.sequence.kv.pages();
        if of.append.phase == Phase::Prefill {
            let written = of.sequence.len / PAGE_SIZE..pages.len();
            pages[written].iter().for_each(|page| pool.change(page, PlacedPage::drop_copies));
        }
        let Some(reads) = Reads::of(pool, of) else { continue };
        for (i, page) in pages.iter().enumerate() {
            if reads.holds(i) {
                pool.add_copies(page, Copies::Heads(&reads.heads))?;
                inside.push(page);
            } else {
                pool.add_copies(page, Copies::Recent)?;
                recent.insert(page.id());
            }
        }
    }
    // A fork may still have its window where another's is over.
    let over = inside.into_iter().filter(|page| !recent.contains(&page.id()));
    over.for_each(|page| pool.change(page, PlacedPage::drop_recent));
    Ok(())
}

/// Tables of a part, in the order in which they go to the device. Kept from step to step.
#[derive(Default)]
pub(crate) struct PageTables {
    pub entries: Vec<u64>,
    /// Places in `entries`, until [`PageTables::at`].
    pub sequences: Vec<SequenceTables>,
}

impl PageTables {
    /// Those of a part instead of what was here. After [`place_copies`].
    pub fn fill(&mut self, pool: &DeviceKvPool, part: &BatchPart) {
        let Self { entries, sequences } = self;
        entries.clear();
        sequences.clear();
        for of in part.sequences() {
            let pages = of.sequence.kv.pages();
            let mut add = |address: &dyn Fn(&PlacedPage) -> u64| {
                let first = entries.len() as u64;
                pool.extend(entries, pages, address);
                first
            };
            let mut of_sequence = SequenceTables { device: add(&|page| page.device().address()), ..SequenceTables::default() };
            if of.append.phase == Phase::Decode && pool.placement().has_hybrid_layers() {
                of_sequence.recent = add(&PlacedPage::nearest);
                of_sequence.host = add(&|page| page.host().address());
                let heads = Reads::of(pool, of).map_or_else(Vec::new, |reads| reads.heads);
                let first = pool.placement().host_heads().start;
                of_sequence.heads = heads.into_iter().map(|head| (first + head, add(&|page| page.nearest_head(head)))).collect();
            }
            sequences.push(of_sequence);
        }
    }

    /// Turns places into addresses: the entries begin at `address`.
    pub fn at(&mut self, address: u64) {
        let turn = |place: &mut u64| *place = address + *place * size_of::<u64>() as u64;
        for of in &mut self.sequences {
            [&mut of.device, &mut of.recent, &mut of.host].into_iter().for_each(turn);
            of.heads.iter_mut().for_each(|(_, place)| turn(place));
        }
    }
}
