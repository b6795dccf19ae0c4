//! The KV pool and block tables against a plain model, under random reserves, forks, cuts, drops, exports and imports within a budget.

use std::collections::HashMap;
use std::sync::Arc;

use ctkvr_core::Error;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::kv::panels::widen_rows;
use ctkvr_core::kv::pool::{KvPool, PageId, PageShape, PoolUsage};
use ctkvr_kernels::testing::{Random, tables};
use ctkvr_kernels::{Kernels, KvFormat, PAGE_SIZE, Rows};

const D: usize = 32;
const SHAPE: PageShape = PageShape { num_heads: 3, head_dim: D };
const MAX_TOKENS: usize = 5 * PAGE_SIZE;

/// A sequence, and what it must hold: a mark for each position.
struct Sequence {
    table: BlockTable,
    marks: Vec<u32>,
}

/// The key and the value that stand for a mark in a head: both formats hold them exactly, for each block has a value of 127.
fn rows_of(mark: u32, head: usize) -> [Vec<f32>; 2] {
    let code = |i: u32| ((mark >> (7 * i)) & 127) as f32;
    let key = [127.0, code(0), -code(1), head as f32].repeat(D / 4);
    let value = [-127.0, -code(0), code(1), code(2)].repeat(D / 4);
    [key, value]
}

impl Sequence {
    fn new(pool: &Arc<HostKvPool>, format: KvFormat) -> Self {
        let pool: Arc<dyn KvPool> = Arc::<HostKvPool>::clone(pool);
        Self { table: BlockTable::new(pool, format), marks: Vec::new() }
    }

    fn append(&mut self, kernels: &Kernels, marks: &[u32]) -> Result<(), Error> {
        let first = self.marks.len();
        self.table.reserve(first, first + marks.len())?;
        for (i, mark) in marks.iter().enumerate() {
            for head in 0..SHAPE.num_heads {
                let [key, value] = rows_of(*mark, head);
                // SAFETY: reserved above; nobody else runs; rows of D values.
                unsafe { self.table.head(head).store(kernels, first + i, key.as_ptr(), value.as_ptr()) };
            }
        }
        self.marks.extend_from_slice(marks);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.marks.truncate(len);
        self.table.truncate(len);
    }

    /// Every row of every head is the one of its mark.
    fn check(&self, kernels: &Kernels, what: &str) {
        let len = self.marks.len();
        let positions: Vec<u32> = (0..len as u32).rev().collect();
        let widened = |rows: Rows| {
            let mut out = vec![0.0; rows.len() * D];
            widen_rows(kernels, &rows, 0, rows.len(), &mut out);
            out
        };
        for head in 0..SHAPE.num_heads {
            let kv = self.table.head(head);
            let [keys, values] = [kv.keys(0, len), kv.values(0, len)].map(widened);
            // SAFETY: every position was stored.
            let [keys_back, values_back] = unsafe { [kv.keys_at(&positions), kv.values_at(&positions)] }.map(widened);
            for (i, mark) in self.marks.iter().enumerate() {
                let [key, value] = rows_of(*mark, head);
                let (row, back) = (i * D..(i + 1) * D, (len - 1 - i) * D..(len - i) * D);
                assert_eq!((&keys[row.clone()], &keys_back[back.clone()]), (&key[..], &key[..]), "{what}: key {i} of head {head}");
                assert_eq!((&values[row], &values_back[back]), (&value[..], &value[..]), "{what}: value {i} of head {head}");
            }
        }
    }

    /// Through bytes into new pages.
    fn reimported(&self, pool: &Arc<HostKvPool>) -> Result<Self, Error> {
        let (mut copy, format) = (Self::new(pool, self.table.format()), self.table.format());
        for (i, page) in self.marks.chunks(PAGE_SIZE).enumerate() {
            let mut bytes = vec![7];
            // SAFETY: every position of the marks was stored, and nobody else runs.
            unsafe { self.table.export_page(i, page.len(), &mut bytes) }.expect("this process's memory is read");
            assert_eq!(bytes.len(), 1 + SHAPE.exported_bytes(format, page.len()));
            let refused = copy.table.import_page(page.len(), &bytes);
            assert!(matches!(refused, Err(Error::ShapeMismatch { .. })), "a byte too many");
            copy.table.import_page(page.len(), &bytes[1..])?;
            copy.marks.extend_from_slice(page);
        }
        Ok(copy)
    }

    fn page_ids(&self) -> Vec<PageId> {
        self.table.pages().iter().map(|page| page.id()).collect()
    }
}

/// The pool and every table say what the tables' page ids say.
fn check_counts(pool: &HostKvPool, sequences: &[Sequence], budget: Option<usize>, what: &str) {
    let mut holders = HashMap::<PageId, (usize, usize)>::new();
    for sequence in sequences {
        assert_eq!(sequence.table.pages().len(), sequence.marks.len().div_ceil(PAGE_SIZE), "{what}");
        for id in sequence.page_ids() {
            holders.entry(id).or_insert((0, SHAPE.page_bytes(sequence.table.format()))).0 += 1;
        }
    }
    let expected = PoolUsage {
        pages: holders.len(),
        bytes: holders.values().map(|(_, bytes)| bytes).sum(),
        shared_pages: holders.values().filter(|(count, _)| *count > 1).count(),
        budget_bytes: budget,
    };
    assert_eq!(pool.usage(), expected, "{what}");
    assert!(budget.is_none_or(|budget| expected.bytes <= budget), "{what}");
    for sequence in sequences {
        let bytes = SHAPE.page_bytes(sequence.table.format());
        let shared = sequence.page_ids().iter().filter(|id| holders[id].0 > 1).count();
        assert_eq!(sequence.table.bytes(), sequence.page_ids().len() * bytes, "{what}");
        assert_eq!(sequence.table.shared_bytes(), shared * bytes, "{what}");
    }
    pool.check_integrity(sequences.iter().flat_map(|sequence| sequence.table.pages())).expect(what);
}

#[test]
fn pool_and_tables_do_as_the_plain_model() {
    let kernels = tables(D)[0];
    let mut refusals = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        // From nothing to plenty; some without a budget.
        let budget = (!seed.is_multiple_of(8)).then(|| random.below(24) as usize * 50_000);
        let pool = Arc::new(HostKvPool::new(SHAPE, budget));
        let mut sequences: Vec<Sequence> = Vec::new();
        let mut mark = 0;
        for i in 0..60 {
            let what = format!("seed {seed}, operation {i}");
            let before = pool.usage();
            let chosen = random.below(sequences.len().max(1) as u64) as usize;
            let outcome = match random.below(12) {
                _ if sequences.is_empty() => {
                    let format = if random.below(2) == 0 { KvFormat::F16 } else { KvFormat::Q8 };
                    sequences.push(Sequence::new(&pool, format));
                    Ok(())
                }
                0 => {
                    let format = if random.below(2) == 0 { KvFormat::F16 } else { KvFormat::Q8 };
                    sequences.push(Sequence::new(&pool, format));
                    Ok(())
                }
                1 | 2 => {
                    let Sequence { table, marks } = &sequences[chosen];
                    let fork = Sequence { table: table.fork(), marks: marks.clone() };
                    assert_eq!(fork.page_ids(), sequences[chosen].page_ids(), "{what}");
                    sequences.push(fork);
                    Ok(())
                }
                3 => {
                    let len = random.below(sequences[chosen].marks.len() as u64 + 1) as usize;
                    sequences[chosen].truncate(len);
                    Ok(())
                }
                4 => {
                    drop(sequences.swap_remove(chosen));
                    Ok(())
                }
                5 => sequences[chosen].reimported(&pool).map(|copy| sequences.push(copy)),
                _ => {
                    let most = if random.below(2) == 0 { 3 } else { 2 * PAGE_SIZE as u64 };
                    let room = MAX_TOKENS - sequences[chosen].marks.len();
                    let count = (1 + random.below(most) as usize).min(room);
                    let marks: Vec<u32> = (mark..mark + count as u32).collect();
                    mark += count as u32;
                    let ids = sequences[chosen].page_ids();
                    let outcome = sequences[chosen].append(kernels, &marks);
                    if outcome.is_err() {
                        assert_eq!(sequences[chosen].page_ids(), ids, "{what}");
                    }
                    outcome
                }
            };
            if let Err(error) = outcome {
                let Error::OutOfMemory { needed, available, .. } = error else { panic!("{what}: {error}") };
                assert!(needed > available, "{what}: {error}");
                assert_eq!(pool.usage(), before, "{what}: a refusal changes nothing");
                refusals += 1;
            }
            check_counts(&pool, &sequences, budget, &what);
            sequences.get(chosen).iter().for_each(|sequence| sequence.check(kernels, &what));
        }
        sequences.iter().for_each(|sequence| sequence.check(kernels, &format!("seed {seed}, the end")));
        drop(sequences);
        check_counts(&pool, &[], budget, &format!("seed {seed}, all dropped"));
    }
    assert!(refusals > 100, "the budgets bind: {refusals}");
}

#[test]
fn a_refusal_names_what_is_needed_and_what_is_left() {
    let page = SHAPE.page_bytes(KvFormat::F16);
    let pool = Arc::new(HostKvPool::new(SHAPE, Some(3 * page + 100)));
    let (mut a, kernels) = (Sequence::new(&pool, KvFormat::F16), tables(D)[0]);
    a.append(kernels, &vec![1; PAGE_SIZE + 1]).expect("two pages fit");
    let refused = |sequence: &mut Sequence, count: usize, needed: usize| {
        let error = sequence.append(kernels, &vec![2; count]).expect_err("too much");
        let available = (page + 100) as u64;
        assert_eq!(error, Error::OutOfMemory { what: "the KV store", needed: needed as u64, available });
    };
    refused(&mut a, 2 * PAGE_SIZE, 2 * page);
    // The copy of the shared page counts.
    let mut b = Sequence { table: a.table.fork(), marks: a.marks.clone() };
    refused(&mut b, PAGE_SIZE, 2 * page);
    b.append(kernels, &[3]).expect("the copy fits");
    assert_eq!(pool.usage(), PoolUsage { pages: 3, bytes: 3 * page, shared_pages: 1, budget_bytes: Some(3 * page + 100) });
    // A smaller budget frees nothing.
    pool.set_budget(Some(page));
    a.append(kernels, &[4]).expect("no page is needed");
    assert_eq!(
        a.append(kernels, &vec![5; PAGE_SIZE]),
        Err(Error::OutOfMemory { what: "the KV store", needed: page as u64, available: 0 })
    );
    [&a, &b].iter().for_each(|sequence| sequence.check(kernels, "the end"));
}

#[test]
fn a_whole_page_is_exported_byte_for_byte() {
    for format in [KvFormat::F16, KvFormat::Q8] {
        let pieces: Vec<_> = SHAPE.pieces(format, PAGE_SIZE).filter(|piece| !piece.is_empty()).collect();
        assert!(pieces.windows(2).all(|pair| pair[0].end == pair[1].start), "{format:?}");
        assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (0, SHAPE.page_bytes(format)));
        assert_eq!(SHAPE.exported_bytes(format, PAGE_SIZE), SHAPE.page_bytes(format));
    }
}
