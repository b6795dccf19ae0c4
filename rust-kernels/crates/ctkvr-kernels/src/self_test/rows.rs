//! Kernels that read rows of pages: both formats, runs and lists that cross the edge of a page.

use super::super::kv_format::Q8_BLOCK;
use super::super::{Kernels, KvFormat, KvSide, PAGE_SIZE, PageLayout, Rows, SCALAR};
use super::{DRAWS, Draw, Finding, Numbers, budget, near};

/// Largest integer drawn; a code of 8 bits holds it.
const MOST: i16 = 127;

/// Keys of two pages.
struct Pages(Vec<Vec<u64>>);

impl Pages {
    fn new(numbers: &mut Numbers, draw: Draw, layout: PageLayout) -> Self {
        let d = layout.head_dim;
        let mut data = vec![vec![0u64; layout.bytes().div_ceil(8)]; 2];
        for position in 0..2 * PAGE_SIZE {
            let mut row = numbers.draw(draw, d, MOST);
            // A scale of 1, so that integers stay what they are.
            row.iter_mut().step_by(Q8_BLOCK).filter(|_| draw == Draw::Integers).for_each(|x| *x = f32::from(MOST));
            let page: *mut u8 = data[position / PAGE_SIZE].as_mut_ptr().cast();
            let (offset, scales) = layout.offsets(KvSide::Keys, position % PAGE_SIZE);
            // SAFETY: a page holds the row, and its scales; both are aligned.
            unsafe {
                match layout.format {
                    KvFormat::F16 => (SCALAR.narrow)(row.as_ptr(), d, page.add(offset).cast()),
                    KvFormat::Q8 => (SCALAR.quantise)(row.as_ptr(), d, page.add(offset).cast(), page.add(scales).cast()),
                }
            }
        }
        Self(data)
    }

    fn pointers(&self) -> Vec<*const u8> {
        self.0.iter().map(|page| page.as_ptr().cast()).collect()
    }
}

/// Calls `check` with rows of every kind that this table can read.
pub(super) fn for_rows(table: &Kernels, mut check: impl FnMut(&mut Numbers, Draw, &Rows) -> Finding) -> Finding {
    for draw in DRAWS {
        for (head_dim, format) in
            [(16, KvFormat::F16), (64, KvFormat::F16), (80, KvFormat::F16), (64, KvFormat::Q8), (128, KvFormat::Q8)]
        {
            if head_dim % table.lanes != 0 {
                continue;
            }
            let (mut numbers, layout) = (Numbers(head_dim as u64), PageLayout { head_dim, format });
            let pages = Pages::new(&mut numbers, draw, layout);
            let pointers = pages.pointers();
            for n in [0, 1, 7, 16, 33, 150] {
                let positions: Vec<u32> = (0..n).map(|i| (i * 37 % (2 * PAGE_SIZE)) as u32).collect();
                check(&mut numbers, draw, &Rows::run(&pointers, layout, KvSide::Keys, PAGE_SIZE - n / 2, n))?;
                check(&mut numbers, draw, &Rows::list(&pointers, layout, KvSide::Keys, &positions))?;
            }
        }
    }
    Ok(())
}

fn shape(rows: &Rows, group: usize) -> String {
    format!("{group} times {} rows of {} in {:?}", rows.len(), rows.head_dim(), rows.format())
}

pub(super) fn scores(table: &Kernels) -> Finding {
    for_rows(table, |numbers, draw, rows| {
        let (n, d) = (rows.len(), rows.head_dim());
        for group in [1, 3, 7] {
            let (q, stride) = (numbers.draw(draw, group * d, 7), n + 3);
            let by = |table: &Kernels| {
                let mut out = vec![f32::NAN; group * stride];
                // SAFETY: the buffers have the sizes that the kernel names.
                unsafe { (table.score_rows)(q.as_ptr(), group, rows, out.as_mut_ptr(), stride) };
                out
            };
            // Values of 8 bits are rounded once more, when a scale meets its codes.
            let allowed = budget(draw, d + 2, d as f64);
            near(shape(rows, group), &by(table), &by(&SCALAR), |_| allowed)?;
        }
        Ok(())
    })
}

pub(super) fn weighted_sums(table: &Kernels) -> Finding {
    for_rows(table, |numbers, draw, rows| {
        let (n, d) = (rows.len(), rows.head_dim());
        for group in [1, 3, 7] {
            let stride = n + 3;
            let (weights, before) = (numbers.draw(draw, group * stride, 7), numbers.draw(draw, group * d + 2, 7));
            let by = |table: &Kernels| {
                let mut acc = before.clone();
                // SAFETY: the buffers have the sizes that the kernel names.
                unsafe { (table.add_weighted_rows)(weights.as_ptr(), stride, group, rows, acc.as_mut_ptr()) };
                acc
            };
            let allowed = budget(draw, n + 3, (n + 1) as f64);
            near(shape(rows, group), &by(table), &by(&SCALAR), |_| allowed)?;
        }
        Ok(())
    })
}

pub(super) fn widened(table: &Kernels) -> Finding {
    for_rows(table, |_, _, rows| {
        let by = |table: &Kernels| {
            let mut out = vec![f32::NAN; (rows.len() + 1) * rows.head_dim()];
            // SAFETY: there is room for one row more.
            unsafe { (table.widen_rows)(rows, out.as_mut_ptr()) };
            out
        };
        near(shape(rows, 1), &by(table), &by(&SCALAR), |_| 0.0)
    })
}
