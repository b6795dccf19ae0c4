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

    #[test]
    fn a_span_ends_with_the_last_row() {
        assert_eq!([span(0, 9, 4), span(1, 9, 4), span(3, 9, 4)], [0, 4, 22]);
        assert_eq!(span(3, usize::MAX, 4), usize::MAX);
    }
}
