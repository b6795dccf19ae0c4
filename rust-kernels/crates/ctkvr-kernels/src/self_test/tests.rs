//! That every table passes, and that each kernel done wrong is found and named.

use super::super::{Bf16Kernels, Kernels, MissedSums, PackedKernels, SCALAR, TileLinear, bf16, packed, tile_linear};

#[test]
fn every_table_of_this_machine_passes() {
    for table in Kernels::detected() {
        assert_eq!(table.self_test(), Ok(()), "{}", table.name);
    }
}

#[test]
fn the_plain_products_pass() {
    let tile_linear = Some(&tile_linear::SCALAR);
    let table = Kernels { bf16: Some(&bf16::SCALAR), packed: Some(&packed::SCALAR), tile_linear, ..SCALAR };
    assert_eq!(table.self_test(), Ok(()));
}

/// Calls the scalar kernel, then spoils what it wrote.
macro_rules! spoiled {
    ($table:path, $field:ident, |$($arg:ident),*| $spoil:expr) => {
        |$($arg),*| {
            // SAFETY: the contract is the caller's; what is spoiled was just written.
            unsafe {
                let _result = ($table.$field)($($arg),*);
                $spoil
            }
        }
    };
}

#[test]
fn each_kernel_done_wrong_is_named() {
    // SAFETY: the contract is the caller's.
    let exp_sub = |x, n, offset| unsafe { (SCALAR.exp_sub)(x, n, offset) * 1.001 };
    let broken = [
        ("score_rows", Kernels { score_rows: spoiled!(SCALAR, score_rows, |q, group, rows, out, stride| *out += 1.0), ..SCALAR }),
        (
            "add_weighted_rows",
            Kernels { add_weighted_rows: spoiled!(SCALAR, add_weighted_rows, |w, stride, group, rows, acc| *acc += 1.0), ..SCALAR },
        ),
        ("widen_rows", Kernels { widen_rows: spoiled!(SCALAR, widen_rows, |rows, out| *out += 1.0), ..SCALAR }),
        ("max", Kernels { max: |_, _| 0.5, ..SCALAR }),
        ("exp_sub", Kernels { exp_sub, ..SCALAR }),
        ("missed_sums", Kernels { missed_sums: |_, _, _| MissedSums::default(), ..SCALAR }),
        ("add_scaled", Kernels { add_scaled: |_, _, _, _| {}, ..SCALAR }),
        ("scale", Kernels { scale: |_, _, _| {}, ..SCALAR }),
        ("score_codes", Kernels { score_codes: spoiled!(SCALAR, score_codes, |q, codes, n, d, out| *out += 1.0), ..SCALAR }),
        ("marked", Kernels { marked: |_, _, _, _| 0, ..SCALAR }),
        ("count_ge", Kernels { count_ge: |_, n, _| n, ..SCALAR }),
        ("select_ge", Kernels { select_ge: |_, _, _, _| 0, ..SCALAR }),
        ("widen", Kernels { widen: spoiled!(SCALAR, widen, |x, n, out| *out.add(n - 1) = 1.0), ..SCALAR }),
        ("quantise", Kernels { quantise: spoiled!(SCALAR, quantise, |x, n, codes, scales| *codes = 99), ..SCALAR }),
        ("narrow", Kernels { narrow: spoiled!(SCALAR, narrow, |x, n, out| *out.add(n) = 0), ..SCALAR }),
        ("rms_norm", Kernels { rms_norm: spoiled!(SCALAR, rms_norm, |x, weight, n, epsilon, out| *out += 1.0), ..SCALAR }),
        ("gate", Kernels { gate: spoiled!(SCALAR, gate, |gate, up, n, out| *out.add(n - 1) += 1.0), ..SCALAR }),
        ("rotate_halves", Kernels { rotate_halves: SCALAR.rotate_adjacent, ..SCALAR }),
        ("rotate_adjacent", Kernels { rotate_adjacent: SCALAR.rotate_halves, ..SCALAR }),
        ("gemm", Kernels { gemm: spoiled!(SCALAR, gemm, |job| *job.c += 0.01), ..SCALAR }),
    ];
    for (name, table) in broken {
        let found = table.self_test().expect_err(name);
        assert!(found.starts_with(&format!("{name}: ")), "{name}: {found}");
    }
}

#[test]
fn each_product_done_wrong_is_named() {
    static NARROW: Bf16Kernels = Bf16Kernels { narrow: |_, _, _| {}, ..bf16::SCALAR };
    static COLUMNS: Bf16Kernels = Bf16Kernels { pack_columns: |_, _, _| {}, ..bf16::SCALAR };
    static ROWS: Bf16Kernels = Bf16Kernels { pack_rows: |_, _, _, _, _| {}, ..bf16::SCALAR };
    static PRODUCT: Bf16Kernels =
        Bf16Kernels { product: spoiled!(bf16::SCALAR, product, |job| *job.c.add(job.columns) = 0.0), ..bf16::SCALAR };
    static PACK_KEYS: Bf16Kernels = Bf16Kernels { pack_keys: bf16::SCALAR.pack_values, ..bf16::SCALAR };
    static PACK_VALUES: Bf16Kernels = Bf16Kernels { pack_values: bf16::SCALAR.pack_keys, ..bf16::SCALAR };
    static ATTEND: Bf16Kernels =
        Bf16Kernels { attend_block: spoiled!(bf16::SCALAR, attend_block, |block| *block.sum += 0.5), ..bf16::SCALAR };
    let tables = [
        ("narrow", &NARROW),
        ("pack_columns", &COLUMNS),
        ("pack_rows", &ROWS),
        ("product", &PRODUCT),
        ("pack_keys", &PACK_KEYS),
        ("pack_values", &PACK_VALUES),
        ("attend_block", &ATTEND),
    ];
    for (name, table) in tables {
        let found = Kernels { bf16: Some(table), ..SCALAR }.self_test().expect_err(name);
        assert!(found.starts_with(&format!("bf16: {name}: ")), "{name}: {found}");
    }
    static ROUND: PackedKernels = PackedKernels { round: |_, _, _, _, _| {}, ..packed::SCALAR };
    static PACKED_PRODUCT: PackedKernels =
        PackedKernels { product: spoiled!(packed::SCALAR, product, |job| *job.c += 0.5), ..packed::SCALAR };
    for (name, table) in [("round", &ROUND), ("product", &PACKED_PRODUCT)] {
        let found = Kernels { packed: Some(table), ..SCALAR }.self_test().expect_err(name);
        assert!(found.starts_with(&format!("packed: {name}: ")), "{name}: {found}");
    }
    static NARROW_ROW: TileLinear = TileLinear { narrow_row: |_, _, _, _, _| {}, ..tile_linear::SCALAR };
    static WIDEN_STRIP: TileLinear = TileLinear { widen_strip: |_, _, _, _, _| {}, ..tile_linear::SCALAR };
    static WIDEN_ROWS: TileLinear = TileLinear { widen_rows: |_, _, _, _| {}, ..tile_linear::SCALAR };
    static MULTIPLY: TileLinear = TileLinear {
        multiply_strips: spoiled!(tile_linear::SCALAR, multiply_strips, |job, strips, scratch| *job.c.add(job.n) = 0.5),
        ..tile_linear::SCALAR
    };
    let broken =
        [("narrow_row", &NARROW_ROW), ("widen_strip", &WIDEN_STRIP), ("widen_rows", &WIDEN_ROWS), ("multiply_strips", &MULTIPLY)];
    for (name, table) in broken {
        let found = Kernels { tile_linear: Some(table), ..SCALAR }.self_test().expect_err(name);
        assert!(found.starts_with(&format!("tile_linear: {name}: ")), "{name}: {found}");
    }
}
