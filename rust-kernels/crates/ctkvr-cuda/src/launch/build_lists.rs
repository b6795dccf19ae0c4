//! The lists of indexes that are built: see `kernels/build_lists.cu`.

use std::ops::Range;

use ctkvr_kernels::{KvFormat, PageLayout};

use super::search_state::Total;
use super::traffic::Traffic;
use crate::{Device, Error, Family, Grid, Plain, Result, Span, Stream, kernel};

/// Positions that one block scores, at fixed places of a range.
const SPLIT: usize = 4096;
/// Rows of a block.
const TILE: usize = 128;
const THREADS: usize = 256;
const TOP_THREADS: usize = 512;
/// f32 of a row and split: squares of all weights, squares of those not found, and these.
const MISSED: usize = 3;

/// Splits of so many positions.
pub fn splits_of(len: usize) -> usize {
    len.div_ceil(SPLIT)
}

/// Words of 32 positions' bits that each query has, whole pairs.
pub fn words_of(len: usize) -> usize {
    len.div_ceil(64) * 2
}

/// Numbers of a row's missed weights over so many positions.
pub fn missed_len(len: usize) -> usize {
    splits_of(len) * MISSED
}

/// One head's queries over one range of positions. Which spans are used is the launch's; others may be empty. Rows are (query, query head).
#[derive(Debug, Clone)]
pub struct ListTask {
    /// Device address of the sequence's page table, which reaches as far as `positions`.
    pub pages: u64,
    /// Bytes into each page before this (layer, KV head).
    pub head_offset: u64,
    /// f16 `[rows, head_dim]`.
    pub queries: Span<u16>,
    /// `[rows, splits_of(positions)]`.
    pub partials: Span<Total>,
    /// `[rows]`.
    pub totals: Span<Total>,
    /// f32 `[lists, positions]`.
    pub weights: Span<f32>,
    /// `[lists, list_len]`, of positions counted from the first.
    pub selected: Span<u32>,
    /// `[queries, words_of(positions)]`: a bit for each position that was found.
    pub found: Span<u32>,
    /// f32 `[rows, missed_len(positions)]`: of each split the squares of all weights, of those not found, and these.
    pub missed: Span<f32>,
    pub positions: Range<usize>,
    /// Rows of a query.
    pub group: usize,
    /// Rows of a list; the last one may have fewer.
    pub rows_per_list: usize,
    /// At most as many as there are positions.
    pub list_len: usize,
}

/// `ListJob` of the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ListJob {
    pages: u64,
    head_offset: u64,
    queries: u64,
    partials: u64,
    totals: u64,
    weights: u64,
    selected: u64,
    found: u64,
    missed: u64,
    first: u32,
    len: u32,
    rows: u32,
    group: u32,
    rows_per_list: u32,
    list_len: u32,
}
const _: () = assert!(size_of::<ListJob>() == 96);
// SAFETY: numbers without padding, as `ListJob` of kernels/build_lists.cu.
unsafe impl Plain for ListJob {}

macro_rules! over_keys {
    ($loads_16:literal, $($of:ident)*) => { $(kernel! { fn $of(jobs: Span<ListJob>, scale: f32) needs { loads_16: $loads_16, products: 16 }; })* };
}
over_keys! { 2,
    list_totals_f16_d64 list_totals_f16_d96 list_totals_f16_d128 list_totals_f16_d256
    list_weights_f16_d64 list_weights_f16_d96 list_weights_f16_d128 list_weights_f16_d256
    missed_weights_f16_d64 missed_weights_f16_d96 missed_weights_f16_d128 missed_weights_f16_d256
}
// Eight codes at a time.
over_keys! { 0,
    list_totals_q8_d64 list_totals_q8_d96 list_totals_q8_d128 list_totals_q8_d256
    list_weights_q8_d64 list_weights_q8_d96 list_weights_q8_d128 list_weights_q8_d256
    missed_weights_q8_d64 missed_weights_q8_d96 missed_weights_q8_d128 missed_weights_q8_d256
}
kernel! {
    fn join_totals(jobs: Span<ListJob>);
    fn list_top(jobs: Span<ListJob>);
}

pub const FAMILY: Family = Family {
    file: "build_lists",
    kernels: &[
        list_totals_f16_d64::DECLARATION,
        list_totals_f16_d96::DECLARATION,
        list_totals_f16_d128::DECLARATION,
        list_totals_f16_d256::DECLARATION,
        list_totals_q8_d64::DECLARATION,
        list_totals_q8_d96::DECLARATION,
        list_totals_q8_d128::DECLARATION,
        list_totals_q8_d256::DECLARATION,
        list_weights_f16_d64::DECLARATION,
        list_weights_f16_d96::DECLARATION,
        list_weights_f16_d128::DECLARATION,
        list_weights_f16_d256::DECLARATION,
        list_weights_q8_d64::DECLARATION,
        list_weights_q8_d96::DECLARATION,
        list_weights_q8_d128::DECLARATION,
        list_weights_q8_d256::DECLARATION,
        missed_weights_f16_d64::DECLARATION,
        missed_weights_f16_d96::DECLARATION,
        missed_weights_f16_d128::DECLARATION,
        missed_weights_f16_d256::DECLARATION,
        missed_weights_q8_d64::DECLARATION,
        missed_weights_q8_d96::DECLARATION,
        missed_weights_q8_d128::DECLARATION,
        missed_weights_q8_d256::DECLARATION,
        join_totals::DECLARATION,
        list_top::DECLARATION,
    ],
};

/// Launches one of the kernels that there is one of for each format and head dimension.
macro_rules! launch_over_keys {
    ($self:ident, $grid:expr, $what:literal, $($format:ident $d:literal $name:ident)*) => {{
        let scale = 1.0 / ($self.layout.head_dim as f32).sqrt();
        // SAFETY: the lengths are checked; the page tables are the caller's.
        unsafe {
            match ($self.layout.format, $self.layout.head_dim) {
                $((KvFormat::$format, $d) => $name::launch($self.device, $self.stream, $grid, $self.jobs, scale),)*
                (_, d) => Err(Error::BadKernel { kernel: format!("{} for heads of {d}", $what), code: 0 }),
            }
        }
    }};
}

/// Tasks of heads of one layout, on the device.
pub struct BuildLists<'a> {
    device: &'a Device,
    stream: &'a Stream,
    layout: PageLayout,
    tasks: &'a [ListTask],
    jobs: Span<ListJob>,
}

impl<'a> BuildLists<'a> {
    /// Brings the tasks to `jobs`, `[tasks]` or more. They stay until what is launched has run.
    ///
    /// # Errors
    /// `Length` when a span has another; those of the driver.
    pub fn new(device: &'a Device, layout: PageLayout, tasks: &'a [ListTask], jobs: Span<ListJob>) -> Result<Self> {
        let (stream, jobs) = (device.compute(), jobs.check_at_least("build_lists: jobs", tasks.len())?.part(0..tasks.len()));
        let checked: Vec<ListJob> = tasks.iter().map(|task| task.checked(layout.head_dim)).collect::<Result<_>>()?;
        stream.copy_in(jobs, &checked)?;
        Ok(Self { device, stream, layout, tasks, jobs })
    }

    /// Each row's total over its positions, by way of `partials`; (-infinity, 0) of none. The sum is NaN where a key is not finite.
    ///
    /// # Errors
    /// `Length`, `BadKernel` for heads that have no kernels; `LaunchFailed`, `DeviceLost`.
    pub fn totals(&self) -> Result<()> {
        for task in self.tasks {
            let rows = task.rows(self.layout.head_dim);
            task.partials.check("build_lists: partials", rows * splits_of(task.positions.len()))?;
            task.totals.check("build_lists: totals", rows)?;
        }
        let rows = self.most(|task| task.rows(self.layout.head_dim));
        if rows == 0 {
            return Ok(());
        }
        if self.most_splits() > 0 {
            let grid = Grid::of([rows.div_ceil(TILE), self.most_splits(), self.tasks.len()], THREADS);
            launch_over_keys!(self, grid, "list_totals",
                F16 64 list_totals_f16_d64 F16 96 list_totals_f16_d96 F16 128 list_totals_f16_d128 F16 256 list_totals_f16_d256
                Q8 64 list_totals_q8_d64 Q8 96 list_totals_q8_d96 Q8 128 list_totals_q8_d128 Q8 256 list_totals_q8_d256)?;
        }
        let grid = Grid::of([rows.div_ceil(THREADS), self.tasks.len(), 1], THREADS);
        // SAFETY: the lengths are checked.
        unsafe { join_totals::launch(self.device, self.stream, grid, self.jobs) }
    }

    /// The positions that each list's rows attend to most, given their totals, by way of `weights`.
    ///
    /// # Errors
    /// As [`Self::totals`].
    pub fn lists(&self) -> Result<()> {
        for task in self.tasks {
            let (rows, n) = (task.rows(self.layout.head_dim), task.positions.len());
            assert!(task.rows_per_list > 0 && task.list_len <= n, "lists of {} rows, {} of {n}", task.rows_per_list, task.list_len);
            task.totals.check("build_lists: totals", rows)?;
            task.weights.check("build_lists: weights", rows.div_ceil(task.rows_per_list) * n)?;
            task.selected.check("build_lists: selected", rows.div_ceil(task.rows_per_list) * task.list_len)?;
        }
        let lists = |task: &ListTask| task.lists(self.layout.head_dim);
        let tiles = self.most(|task| lists(task).div_ceil((TILE / task.rows_per_list).max(1)));
        if tiles == 0 || self.most_splits() == 0 {
            return Ok(());
        }
        let grid = Grid::of([tiles, self.most_splits(), self.tasks.len()], THREADS);
        launch_over_keys!(self, grid, "list_weights",
            F16 64 list_weights_f16_d64 F16 96 list_weights_f16_d96 F16 128 list_weights_f16_d128 F16 256 list_weights_f16_d256
            Q8 64 list_weights_q8_d64 Q8 96 list_weights_q8_d96 Q8 128 list_weights_q8_d128 Q8 256 list_weights_q8_d256)?;
        let grid = Grid::of([self.most(lists), self.tasks.len(), 1], TOP_THREADS);
        // SAFETY: as above.
        unsafe { list_top::launch(self.device, self.stream, grid, self.jobs) }
    }

    /// What rows missed of their weight, given the `max` of their totals and what was found.
    ///
    /// # Errors
    /// As [`Self::totals`].
    pub fn missed(&self) -> Result<()> {
        for task in self.tasks {
            let (rows, n) = (task.rows(self.layout.head_dim), task.positions.len());
            assert!(task.group > 0 && rows.is_multiple_of(task.group), "{rows} rows in groups of {}", task.group);
            task.totals.check("build_lists: totals", rows)?;
            task.found.check("build_lists: found", rows / task.group * words_of(n))?;
            task.missed.check("build_lists: missed", rows * missed_len(n))?;
        }
        let rows = self.most(|task| task.rows(self.layout.head_dim));
        if rows == 0 || self.most_splits() == 0 {
            return Ok(());
        }
        let grid = Grid::of([rows.div_ceil(TILE), self.most_splits(), self.tasks.len()], THREADS);
        launch_over_keys!(self, grid, "missed_weights",
            F16 64 missed_weights_f16_d64 F16 96 missed_weights_f16_d96 F16 128 missed_weights_f16_d128 F16 256 missed_weights_f16_d256
            Q8 64 missed_weights_q8_d64 Q8 96 missed_weights_q8_d96 Q8 128 missed_weights_q8_d128 Q8 256 missed_weights_q8_d256)
    }

    /// Each kernel's name, without its format and head dimension, and what one launch of it reads and writes, where no two tasks have the same
    /// positions or queries.
    pub fn traffic(&self) -> [(&'static str, Traffic); 5] {
        let sum = |of: fn(&ListTask, PageLayout) -> Traffic| self.tasks.iter().map(|task| of(task, self.layout)).sum();
        [
            ("list_totals", sum(ListTask::totals_traffic)),
            ("join_totals", sum(ListTask::join_traffic)),
            ("list_weights", sum(ListTask::weights_traffic)),
            ("list_top", sum(ListTask::top_traffic)),
            ("missed_weights", sum(ListTask::missed_traffic)),
        ]
    }

    fn most(&self, of: impl Fn(&ListTask) -> usize) -> usize {
        self.tasks.iter().map(of).max().unwrap_or(0)
    }

    fn most_splits(&self) -> usize {
        self.most(|task| splits_of(task.positions.len()))
    }
}

impl ListTask {
    fn rows(&self, head_dim: usize) -> usize {
        self.queries.len() / head_dim
    }

    fn lists(&self, head_dim: usize) -> usize {
        self.rows(head_dim).div_ceil(self.rows_per_list)
    }

    /// Keys, where there are rows to score them.
    fn key_bytes(&self, layout: PageLayout) -> usize {
        if self.queries.is_empty() { 0 } else { self.positions.len() * layout.format.row_bytes(layout.head_dim) }
    }

    /// Queries, where there are keys to score.
    fn query_bytes(&self) -> usize {
        if self.positions.is_empty() { 0 } else { self.queries.bytes() }
    }

    /// Totals of each row and split.
    fn partial_bytes(&self, layout: PageLayout) -> usize {
        self.rows(layout.head_dim) * splits_of(self.positions.len()) * size_of::<Total>()
    }

    fn weight_bytes(&self, layout: PageLayout) -> usize {
        self.lists(layout.head_dim) * self.positions.len() * size_of::<f32>()
    }

    fn totals_traffic(&self, layout: PageLayout) -> Traffic {
        Traffic { stored: self.key_bytes(layout), passed: self.query_bytes(), written: self.partial_bytes(layout) }
    }

    fn join_traffic(&self, layout: PageLayout) -> Traffic {
        Traffic { stored: 0, passed: self.partial_bytes(layout), written: self.rows(layout.head_dim) * size_of::<Total>() }
    }

    fn weights_traffic(&self, layout: PageLayout) -> Traffic {
        let totals = if self.positions.is_empty() { 0 } else { self.rows(layout.head_dim) * size_of::<Total>() };
        Traffic { stored: self.key_bytes(layout), passed: self.query_bytes() + totals, written: self.weight_bytes(layout) }
    }

    fn top_traffic(&self, layout: PageLayout) -> Traffic {
        // A list of all positions is no choice.
        let passed = if self.list_len < self.positions.len() { self.weight_bytes(layout) } else { 0 };
        Traffic { stored: 0, passed, written: self.lists(layout.head_dim) * self.list_len * size_of::<u32>() }
    }

    fn missed_traffic(&self, layout: PageLayout) -> Traffic {
        let (rows, n) = (self.rows(layout.head_dim), self.positions.len());
        let maxima = if n == 0 { 0 } else { rows * size_of::<f32>() };
        let found = rows / self.group * words_of(n) * size_of::<u32>();
        let written = rows * missed_len(n) * size_of::<f32>();
        Traffic { stored: self.key_bytes(layout), passed: self.query_bytes() + maxima + found, written }
    }

    fn checked(&self, head_dim: usize) -> Result<ListJob> {
        self.queries.check("build_lists: queries", self.rows(head_dim) * head_dim)?;
        assert!(self.queries.address().is_multiple_of(8), "queries are not aligned: {:?}", self.queries);
        // Positions are u32, and so is what is counted by them.
        let [first, len, rows] = [self.positions.start, self.positions.len(), self.rows(head_dim)].map(|n| n as u32);
        Ok(ListJob {
            pages: self.pages,
            head_offset: self.head_offset,
            queries: self.queries.address(),
            partials: self.partials.address(),
            totals: self.totals.address(),
            weights: self.weights.address(),
            selected: self.selected.address(),
            found: self.found.address(),
            missed: self.missed.address(),
            first,
            len,
            rows,
            group: self.group as u32,
            rows_per_list: self.rows_per_list as u32,
            list_len: self.list_len as u32,
        })
    }
}
