//! What a kernel's safe method checks before it hands out pointers: that slices hold what the kernel will read and write. A compare or
//! two a call; a call is hundreds of values.

/// Values from the first of `rows` rows to the end of the last: `columns` of each, rows `stride` apart. Too many to count is more than
/// any slice has.
#[inline(always)]
pub(crate) fn span(rows: usize, stride: usize, columns: usize) -> usize {
    match rows.checked_sub(1) {
        Some(last) => last.saturating_mul(stride).saturating_add(columns),
        None => 0,
    }
}

/// Panics unless `$holds`, naming the kernel and the sizes: who called it is wrong.
macro_rules! check_sizes {
    ($holds:expr, $kernel:literal, $($size:ident = $value:expr),+ $(,)?) => {
        if !$holds {
            $crate::sizes::wrong_sizes($kernel, &[$((stringify!($size), $value)),+]);
        }
    };
}
pub(crate) use check_sizes;

#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn wrong_sizes(kernel: &str, sizes: &[(&str, usize)]) -> ! {
    let sizes: Vec<String> = sizes.iter().map(|(name, size)| format!("{name} {size}")).collect();
    panic!("internal bug: {kernel} was called with sizes that do not fit: {}", sizes.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPages;
    use crate::{Gemm, Kernels, KvFormat};

    #[test]
    fn a_span_ends_with_the_last_row() {
        assert_eq!([span(0, 9, 4), span(1, 9, 4), span(3, 9, 4)], [0, 4, 22]);
        assert_eq!(span(3, usize::MAX, 4), usize::MAX);
    }

    /// What a caller gets wrong ends in a panic that names the kernel, not in memory that is not its own.
    #[test]
    #[cfg_attr(miri, ignore = "panics take minutes there, and touch no pointer")]
    fn sizes_that_do_not_fit_panic_with_the_kernels_name() {
        fn panics(kernel: &str, call: impl FnOnce() + std::panic::UnwindSafe) {
            let what = std::panic::catch_unwind(call).expect_err(kernel);
            let what = what.downcast_ref::<String>().expect("a message");
            assert!(what.contains(&format!("internal bug: {kernel} ")), "{what}");
        }
        let d = 16;
        for kernels in Kernels::available() {
            panics("score_rows", move || {
                let kv = TestPages::new(&vec![0.0; 3 * d], &vec![0.0; 3 * d], d, KvFormat::F16);
                kernels.score_rows(&vec![0.0; 2 * d], &kv.keys(0, 3), &mut [0.0; 6], 4);
            });
            panics("a kernel of rows", move || {
                let kv = TestPages::new(&vec![0.0; 3 * d], &vec![0.0; 3 * d], d, KvFormat::F16);
                kernels.score_rows(&vec![0.0; d + 1], &kv.keys(0, 3), &mut [0.0; 8], 4);
            });
            panics("add_weighted_rows", move || {
                let kv = TestPages::new(&vec![0.0; 3 * d], &vec![0.0; 3 * d], d, KvFormat::F16);
                kernels.add_weighted_rows(&[0.0; 5], 3, &kv.values(0, 3), &mut vec![0.0; 2 * d]);
            });
            panics("add_scaled", move || kernels.add_scaled(&[0.0; 4], 1.0, &mut [0.0; 3]));
            panics("score_codes", move || kernels.score_codes(&[0.0; 16], &[0; 31], &mut [0.0; 2]));
            panics("marked", move || kernels.marked(&[0; 63], 0, &mut Vec::new()));
            panics("widen", move || kernels.widen(&[0; 16], &mut [0.0; 32]));
            panics("quantise", move || kernels.quantise(&[0.0; 32], &mut [0; 32], &mut []));
            panics("rms_norm", move || kernels.rms_norm(&[0.0; 4], &[0.0; 3], 1e-5, &mut [0.0; 4]));
            panics("a rotation", move || kernels.rotate_halves(&mut [0.0; 4], &[0.0; 2], &[0.0; 3]));
            panics("gemm", move || {
                let (a, b, c) = (&[0.0; 6][..], &[0.0; 47][..], &mut [0.0; 32][..]);
                kernels.gemm(Gemm { a, lda: 3, b, ldb: 16, c, ldc: 16, m: 2, n: 16, k: 3, accumulate: false });
            });
        }
    }
}
