//! A table beside the scalar one, on this machine: what a process runs in a child before it trusts the table (packages/native). Small
//! integers must come out exactly, other numbers within budgets derived from the standard error bound of a sum of n products in f32:
//! |error| <= n u sum|a b| / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
//!
//! To add a kernel: its field does not compile in [`check_fields`] before it has a check.

mod bf16;
mod packed;
mod plain;
mod rows;
mod tile_linear;

use std::fmt::Display;

use super::Kernels;

/// What differs from the scalar table, in words.
type Finding = std::result::Result<(), String>;

/// Runs the check of every kernel of a table. The pattern has no `..`, so every field is either checked or named as no kernel.
macro_rules! check_fields {
    ($table:expr, $type:ident, no_kernels: [$($other:ident),*], $($field:ident: $check:expr),+ $(,)?) => {{
        let $type { $($other: _,)* $($field: _,)+ } = $table;
        $($check($table).map_err(|what: String| format!("{}: {what}", stringify!($field)))?;)+
        Ok(())
    }};
}
use check_fields;

impl Kernels {
    /// Runs every kernel of this table, which this CPU must have: some milliseconds.
    ///
    /// # Errors
    /// The first kernel that does other than the scalar one, and where.
    pub fn self_test(&self) -> std::result::Result<(), String> {
        check_fields!(
            self,
            Kernels,
            no_kernels: [name, lanes],
            score_rows: rows::scores,
            add_weighted_rows: rows::weighted_sums,
            widen_rows: rows::widened,
            max: plain::max,
            exp_sub: plain::exp_sub,
            missed_sums: plain::missed_sums,
            add_scaled: plain::add_scaled,
            scale: plain::scale,
            score_codes: plain::score_codes,
            marked: plain::marked,
            count_ge: plain::count_ge,
            select_ge: plain::select_ge,
            prefetch: plain::prefetch,
            widen: plain::widen,
            quantise: plain::quantise,
            narrow: plain::narrow,
            rms_norm: plain::rms_norm,
            gate: plain::gate,
            rotate_halves: plain::rotate_halves,
            rotate_adjacent: plain::rotate_adjacent,
            gemm: plain::gemm,
            bf16: |table: &Kernels| table.bf16.map_or(Ok(()), bf16::check),
            packed: |table: &Kernels| table.packed.map_or(Ok(()), packed::check),
            tile_linear: |table: &Kernels| table.tile_linear.map_or(Ok(()), tile_linear::check),
        )
    }
}

/// How the inputs of a check are drawn, and so what is asked of the outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Draw {
    /// Small enough that every sum is exact in any order.
    Integers,
    /// From -1 to 1.
    Reals,
}

const DRAWS: [Draw; 2] = [Draw::Integers, Draw::Reals];

/// A small generator (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// n integers from -most to most.
    fn integers(&mut self, n: usize, most: i16) -> Vec<f32> {
        (0..n).map(|_| self.below(2 * most as u64 + 1) as f32 - f32::from(most)).collect()
    }

    /// n numbers from -1 to 1.
    fn reals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn draw(&mut self, draw: Draw, n: usize, most: i16) -> Vec<f32> {
        if draw == Draw::Integers { self.integers(n, most) } else { self.reals(n) }
    }
}

/// Most that two sums of `terms` products, whose magnitudes add up to `magnitude` at most, can differ by; nothing for integers.
fn budget(draw: Draw, terms: usize, magnitude: f64) -> f64 {
    let nu = terms as f64 * 2f64.powi(-24);
    if draw == Draw::Integers { 0.0 } else { 2.0 * nu / (1.0 - nu) * magnitude }
}

/// Whole buffers, guards behind them included. `allowed`: the difference allowed where the scalar kernel gave this value.
fn near(what: impl Display, got: &[f32], expected: &[f32], allowed: impl Fn(f64) -> f64) -> Finding {
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let is_same = got == expected || (got.is_nan() && expected.is_nan());
        let is_near = (f64::from(*got) - f64::from(*expected)).abs() <= allowed(f64::from(*expected));
        // One that is not a number is not near.
        if !is_same && !is_near {
            return Err(format!("{what} gave {got} at {i}, the scalar kernel {expected}"));
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: impl Display, got: &[T], expected: &[T]) -> Finding {
    if got.len() != expected.len() {
        return Err(format!("{what} gave {} values, the scalar kernel {}", got.len(), expected.len()));
    }
    match got.iter().zip(expected).position(|(got, expected)| got != expected) {
        Some(i) => Err(format!("{what} gave {:?} at {i}, the scalar kernel {:?}", got[i], expected[i])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
