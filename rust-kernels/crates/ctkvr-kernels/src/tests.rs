//! Every table of this machine against plain f64 arithmetic, with budgets from the standard error bound of a sum of n products in
//! f32: |error| <= n u sum|a b| / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).

use super::kv_format::Q8_BLOCK;
use super::testing::{Random, few};
use super::*;
use half::f16;

fn bound(n: usize, magnitude: f64) -> f64 {
    let nu = n as f64 * 2f64.powi(-24);
    nu / (1.0 - nu) * magnitude
}

/// Keys of two pages, so that positions cross a page edge, and what they stand for.
struct Pages {
    data: Vec<Vec<u64>>,
    layout: PageLayout,
    values: Vec<f64>,
}

impl Pages {
    fn new(random: &mut Random, layout: PageLayout) -> Self {
        let d = layout.head_dim;
        let mut pages = Self { data: vec![vec![0; layout.bytes() / 8]; 2], layout, values: Vec::new() };
        for position in 0..2 * PAGE_SIZE {
            let row = random.units(d);
            let page: *mut u8 = pages.data[position / PAGE_SIZE].as_mut_ptr().cast();
            let (offset, scales) = layout.offsets(KvSide::Keys, position % PAGE_SIZE);
            // SAFETY: a page holds the row, and its scales; both are aligned.
            unsafe {
                match layout.format {
                    KvFormat::F16 => {
                        let out = std::slice::from_raw_parts_mut(page.add(offset).cast::<u16>(), d);
                        out.iter_mut().zip(&row).for_each(|(out, x)| *out = f16::from_f32(*x).to_bits());
                        pages.values.extend(out.iter().map(|x| f16::from_bits(*x).to_f64()));
                    }
                    KvFormat::Q8 => {
                        let (codes, scales) = (page.add(offset).cast(), page.add(scales).cast());
                        (SCALAR.quantise)(row.as_ptr(), d, codes, scales);
                        pages.values.extend((0..d).map(|c| f64::from(*codes.add(c)) * f64::from(*scales.add(c / Q8_BLOCK))));
                    }
                }
            }
        }
        pages
    }
    fn pointers(&self) -> Vec<*const u8> {
        self.data.iter().map(|p| p.as_ptr().cast()).collect()
    }
    fn at(&self, position: usize, c: usize) -> f64 {
        self.values[position * self.layout.head_dim + c]
    }
}

/// Every table with all that it can read: heads of several sizes in both formats.
fn tables_and_layouts() -> Vec<(&'static Kernels, PageLayout)> {
    let mut all = Vec::new();
    for kernels in Kernels::available() {
        for head_dim in few(2, [16, 64, 80, 96, 128]) {
            for format in [KvFormat::F16, KvFormat::Q8] {
                if head_dim % kernels.lanes == 0 && format.check(head_dim).is_ok() {
                    all.push((kernels, PageLayout { head_dim, format }));
                }
            }
        }
    }
    all
}

#[test]
fn scores_and_weighted_sums_match_f64() {
    for (kernels, layout) in tables_and_layouts() {
        let mut random = Random(layout.head_dim as u64);
        let pages = Pages::new(&mut random, layout);
        let pointers = pages.pointers();
        for group in few(2, [1, 3, 5, 7]) {
            for n in few(4, [0, 1, 7, 16, 17, 33, 300]) {
                let start = PAGE_SIZE - n.min(20);
                let len = n.min(2 * PAGE_SIZE - start);
                let positions: Vec<u32> = (0..n).map(|i| (i * 37 % (2 * PAGE_SIZE)) as u32).collect();
                // SAFETY: both pages are written whole, and live longer.
                let run = unsafe { Rows::run(&pointers, layout, KvSide::Keys, start, len) };
                check_rows(kernels, &mut random, &pages, &run, |i| start + i, group);
                // SAFETY: as above.
                let list = unsafe { Rows::list(&pointers, layout, KvSide::Keys, &positions) };
                check_rows(kernels, &mut random, &pages, &list, |i| positions[i] as usize, group);
            }
        }
    }
}

/// Threads share rows out as it suits them.
#[test]
fn a_row_scores_the_same_bits_wherever_the_rows_are_cut() {
    for (kernels, layout) in tables_and_layouts() {
        let mut random = Random(layout.head_dim as u64);
        let pages = Pages::new(&mut random, layout);
        let (pointers, d, n) = (pages.pointers(), layout.head_dim, 300);
        let positions: Vec<u32> = (0..n).map(|i| (i * 37 % (2 * PAGE_SIZE)) as u32).collect();
        // SAFETY: both pages are written whole, and live longer.
        let (run, list) = unsafe {
            let run = Rows::run(&pointers, layout, KvSide::Keys, 100, n);
            (run, Rows::list(&pointers, layout, KvSide::Keys, &positions))
        };
        for rows in [run, list] {
            for group in few(1, [1, 3, 7]) {
                let q = random.units(group * d);
                let scored = |cuts: &[usize]| {
                    let mut out = vec![f32::NAN; group * n];
                    for cut in cuts.windows(2) {
                        // SAFETY: out holds these columns of every row, and is this thread's.
                        unsafe {
                            let part = rows.part(cut[0], cut[1] - cut[0]);
                            kernels.score_rows_into_columns(&q, &part, out.as_mut_ptr().add(cut[0]), n);
                        }
                    }
                    out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
                };
                assert_eq!(scored(&[0, n]), scored(&[0, 1, 3, 6, 10, 77, 205, n]), "{} {layout:?} group {group}", kernels.name);
            }
        }
    }
}

#[test]
fn rows_are_widened_to_the_nearest_f32() {
    for (kernels, layout) in tables_and_layouts() {
        let pages = Pages::new(&mut Random(5), layout);
        let (pointers, d) = (pages.pointers(), layout.head_dim);
        let positions: Vec<u32> = vec![511, 0, 256, 255];
        // SAFETY: both pages are written whole, and live longer.
        let rows = unsafe { Rows::list(&pointers, layout, KvSide::Keys, &positions) };
        let mut out = vec![f32::NAN; 5 * d];
        kernels.widen_rows(&rows, &mut out[..4 * d]);
        for (row, &position) in out.chunks_exact(d).zip(&positions) {
            assert!((0..d).all(|c| row[c] == pages.at(position as usize, c) as f32), "{} {layout:?} {position}", kernels.name);
        }
        assert!(out[4 * d..].iter().all(|x| x.is_nan()), "wrote past n");
    }
}

fn check_rows(kernels: &Kernels, random: &mut Random, pages: &Pages, rows: &Rows, at: impl Fn(usize) -> usize, group: usize) {
    let (n, d) = (rows.len(), rows.head_dim());
    // Values of 8 bits are rounded once more, when a scale meets its codes.
    let once = usize::from(rows.format() == KvFormat::Q8);
    let stride = n + 3;
    let q = random.units(group * d);
    let mut out = vec![f32::NAN; group * stride];
    let weights = random.units(group * stride);
    let mut acc = random.units(group * d);
    let before = acc.clone();
    kernels.score_rows(&q, rows, &mut out, stride);
    kernels.add_weighted_rows(&weights, stride, rows, &mut acc);
    for h in 0..group {
        for i in 0..n {
            let terms = (0..d).map(|c| f64::from(q[h * d + c]) * pages.at(at(i), c));
            let (exact, magnitude) = terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + t.abs()));
            let error = (f64::from(out[h * stride + i]) - exact).abs();
            assert!(error <= bound(d + 1 + once, magnitude), "{} score d {d} n {n} h {h} i {i}: {error}", kernels.name);
        }
        assert!(out[h * stride + n..(h + 1) * stride].iter().all(|x| x.is_nan()), "wrote past n");
        for c in 0..d {
            let start = f64::from(before[h * d + c]);
            let terms = (0..n).map(|i| f64::from(weights[h * stride + i]) * pages.at(at(i), c));
            let (exact, magnitude) = terms.fold((start, start.abs()), |(s, m), t| (s + t, m + t.abs()));
            let error = (f64::from(acc[h * d + c]) - exact).abs();
            assert!(error <= bound(n + 2 + once, magnitude), "{} weighted d {d} n {n} h {h} c {c}: {error}", kernels.name);
        }
    }
}

#[test]
fn softmax_parts_match_f64() {
    for kernels in Kernels::available() {
        for n in [0, 1, 5, 16, 31, 257] {
            let x: Vec<f32> = Random(n as u64).units(n).into_iter().map(|v| v * 40.0).collect();
            let max = kernels.max(&x);
            assert_eq!(max, x.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{} max of {n}", kernels.name);
            let mut e = x.clone();
            let sum = kernels.exp_sub(&mut e, if n == 0 { 0.0 } else { max });
            let mut exact_sum = 0.0;
            for i in 0..n {
                let exact = f64::from(x[i] - max).exp();
                exact_sum += exact;
                assert!((f64::from(e[i]) - exact).abs() <= 3e-7 * exact + 2e-38, "{} exp of {}", kernels.name, x[i] - max);
            }
            assert!(
                (f64::from(sum) - exact_sum).abs() <= bound(n + 8, exact_sum) + 3e-7 * exact_sum,
                "{} sum of {n}",
                kernels.name
            );
        }
    }
}

#[test]
fn matrix_product_matches_f64() {
    for kernels in Kernels::available() {
        for (m, n, k) in few(2, [(1, 16, 1), (6, 64, 64), (7, 80, 33), (13, 128, 64), (20, 48, 128)]) {
            let mut random = Random((m * n * k) as u64);
            let (a, b) = (random.units(m * (k + 1)), random.units(k * n));
            for accumulate in [false, true] {
                let before = random.units(m * (n + 2));
                let mut c = before.clone();
                kernels.gemm(Gemm { a: &a, lda: k + 1, b: &b, ldb: n, c: &mut c, ldc: n + 2, m, n, k, accumulate });
                for i in 0..m {
                    for j in 0..n {
                        let start = if accumulate { f64::from(before[i * (n + 2) + j]) } else { 0.0 };
                        let terms = (0..k).map(|t| f64::from(a[i * (k + 1) + t]) * f64::from(b[t * n + j]));
                        let (exact, magnitude) = terms.fold((start, start.abs()), |(s, g), t| (s + t, g + t.abs()));
                        let error = (f64::from(c[i * (n + 2) + j]) - exact).abs();
                        assert!(error <= bound(k + 2, magnitude), "{} gemm {m}x{n}x{k} at {i},{j}: {error}", kernels.name);
                    }
                    assert_eq!(c[i * (n + 2) + n..(i + 1) * (n + 2)], before[i * (n + 2) + n..(i + 1) * (n + 2)], "wrote past n");
                }
            }
        }
    }
}

#[test]
fn small_kernels_are_exact_on_small_integers() {
    for kernels in Kernels::available() {
        let (n, d) = (21, 64);
        let mut random = Random(9);
        let codes: Vec<i8> = (0..n * d).map(|_| (random.unit() * 127.0) as i8).collect();
        let q: Vec<f32> = (0..d).map(|_| (random.unit() * 8.0).trunc()).collect();
        for n in [n, 1, 3] {
            let mut out = vec![f32::NAN; n + 1];
            kernels.score_codes(&q, &codes[..n * d], &mut out[..n]);
            for i in 0..n {
                let exact: f32 = (0..d).map(|c| q[c] * f32::from(codes[i * d + c])).sum();
                assert_eq!(out[i], exact, "{} codes row {i} of {n}", kernels.name);
            }
            assert!(out[n].is_nan(), "wrote past n");
        }
        let x: Vec<f32> = (0..48).map(|i| i as f32 * 1.5 - 30.0).collect();
        let (mut halves, mut back) = (vec![0u16; 48], vec![0f32; 48]);
        let (mut sum, mut scaled) = (vec![1f32; 37], x.clone());
        kernels.narrow(&x, &mut halves);
        kernels.widen(&halves, &mut back);
        kernels.add_scaled(&x[..37], 2.0, &mut sum);
        kernels.scale(&mut scaled[..37], 3.0);
        assert_eq!(back, x, "{} f16 round trip", kernels.name);
        assert!((0..37).all(|i| sum[i] == 1.0 + 2.0 * x[i]), "{} add_scaled", kernels.name);
        assert!((0..48).all(|i| scaled[i] == if i < 37 { 3.0 * x[i] } else { x[i] }), "{} scale", kernels.name);
    }
}

/// Half a step of the block's largest value, and what rounds on the way: the scale, its inverse, the product with it (each u of at most 127
/// steps).
#[test]
fn codes_of_8_bits_are_the_nearest() {
    for kernels in Kernels::available() {
        let mut random = Random(13);
        let mut x = random.units(4 * Q8_BLOCK);
        x[Q8_BLOCK..2 * Q8_BLOCK].iter_mut().for_each(|x| *x *= 1e-3);
        x[2 * Q8_BLOCK..3 * Q8_BLOCK].fill(0.0);
        // Whole numbers up to 127 stay what they are.
        x[3 * Q8_BLOCK..].iter_mut().for_each(|x| *x = (*x * 127.0).round());
        x[3 * Q8_BLOCK + 5] = -127.0;
        let (mut codes, mut scales) = (vec![0i8; x.len()], vec![f32::NAN; 5]);
        kernels.quantise(&x, &mut codes, &mut scales[..4]);
        for (block, (x, codes)) in x.chunks_exact(Q8_BLOCK).zip(codes.chunks_exact(Q8_BLOCK)).enumerate() {
            let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            assert_eq!(scales[block], largest / 127.0, "{}", kernels.name);
            for (x, code) in x.iter().zip(codes) {
                let steps = f64::from(*x) / (f64::from(largest) / 127.0).max(f64::MIN_POSITIVE) - f64::from(*code);
                assert!(steps.abs() <= 0.5 + bound(3, 127.0), "{} {x}: {code}", kernels.name);
                assert!(block < 3 || *x == f32::from(*code), "{} {x}: {code}", kernels.name);
            }
        }
        assert!(scales[4].is_nan(), "wrote past n");
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1f32; 2 * Q8_BLOCK];
            x[9] = odd;
            kernels.quantise(&x, &mut codes[..2 * Q8_BLOCK], &mut scales[..2]);
            assert!(scales[0].is_nan() && scales[1] == 1.0 / 127.0, "{} {odd}", kernels.name);
        }
        // Too small for a scale that has an inverse.
        let tiny = [1e-37f32; Q8_BLOCK];
        kernels.quantise(&tiny, &mut codes[..Q8_BLOCK], &mut scales[..1]);
        assert_eq!((scales[0], &codes[..Q8_BLOCK]), (0.0, &[0; Q8_BLOCK][..]), "{}", kernels.name);
    }
}

#[test]
fn unknown_and_unfit_kernels_are_refused() {
    assert!(Kernels::named("mmx", 64).is_err());
    assert!(Kernels::for_head_dim(72).is_err());
    assert!(Kernels::for_head_dim(0).is_err());
    assert_eq!(Kernels::named("scalar", 80).map(|k| k.name), Ok("scalar"));
}

#[test]
fn marks_become_ascending_positions() {
    let mut random = Random(11);
    for kernels in Kernels::available() {
        for density in [-1.1, -0.9, 0.0, 0.9, 1.1] {
            let marks: Vec<u8> = random.units(256).iter().map(|x| if *x < density { 255 } else { 0 }).collect();
            let expected: Vec<u32> = (0..256).filter(|i| marks[*i as usize] == 255).map(|i| 7 + i).collect();
            let mut out = Vec::new();
            kernels.marked(&marks, 7, &mut out);
            assert_eq!(out, expected, "{}", kernels.name);
        }
    }
}

#[test]
fn missed_weights_are_added_up() {
    let mut random = Random(12);
    for kernels in Kernels::available() {
        for n in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
            let weights: Vec<f32> = random.units(n).iter().map(|x| x.abs()).collect();
            let marks: Vec<u8> = random.units(n).iter().map(|x| if *x < 0.3 { 255 } else { 0 }).collect();
            let actual = kernels.missed_sums(&weights, &marks);
            let sum = |f: fn(f64) -> f64, all: bool| -> f64 {
                let those = weights.iter().zip(&marks).filter(|(_, mark)| all || **mark == 0);
                those.map(|(w, _)| f(f64::from(*w))).sum()
            };
            let square = |x: f64| x * x;
            for (actual, exact) in
                [(actual.all_squares, sum(square, true)), (actual.squares, sum(square, false)), (actual.sum, sum(|x| x, false))]
            {
                assert!((actual - exact).abs() <= bound(256, exact), "{} n {n}: {actual} for {exact}", kernels.name);
            }
        }
    }
}

#[test]
fn norm_is_the_definition() {
    let mut random = Random(21);
    for kernels in Kernels::available() {
        for n in [1, 15, 16, 64, 77, 576] {
            let (x, weight) = (random.units(n), random.units(n));
            let mut out = vec![0.0; n];
            kernels.rms_norm(&x, &weight, 1e-5, &mut out);
            let mut in_place = x.clone();
            kernels.rms_norm_in_place(&mut in_place, &weight, 1e-5);
            assert_eq!(in_place, out, "{} in place", kernels.name);
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
            for ((x, w), out) in x.iter().zip(&weight).zip(out) {
                let exact = f64::from(*x) / (mean + f64::from(1e-5f32)).sqrt() * f64::from(*w);
                // Each square, then six times the result: mean, sum with epsilon, root, inverse, two products; half a unit each at most.
                assert!(
                    (f64::from(out) - exact).abs() <= 3.5 * f64::from(f32::EPSILON) * exact.abs(),
                    "{}: {out}, {exact}",
                    kernels.name
                );
            }
        }
    }
}

#[test]
fn gates_by_gelu_match_f64() {
    for kernels in Kernels::available() {
        for n in [1, 64, 131] {
            let mut random = Random(n as u64);
            let mut gate: Vec<f32> = random.units(n).into_iter().map(|x| 30.0 * x).collect();
            gate[0] = -200.0;
            let (up, mut out) = (random.units(n), vec![0.0; n]);
            kernels.gate_by_gelu(&gate, &up, &mut out);
            for ((x, up), out) in gate.iter().zip(&up).zip(out) {
                let (x, up) = (f64::from(*x), f64::from(*up));
                let exact = x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()) * up;
                // Four roundings of the exponent, which is below 20 where the result is not x or nearly 0, one each of the others.
                let budget = (4.0 * 20.0 + 8.0) * f64::from(f32::EPSILON) * exact.abs() + 1e-7;
                assert!((f64::from(out) - exact).abs() <= budget, "{} gelu({x}) * {up} = {out}, not {exact}", kernels.name);
            }
        }
    }
}

#[test]
fn gates_match_f64() {
    let mut random = Random(22);
    for kernels in Kernels::available() {
        for n in [1, 63, 64, 65, 1536] {
            let mut gate: Vec<f32> = random.units(n).into_iter().map(|x| 30.0 * x).collect();
            gate[0] = -200.0;
            let (up, mut out) = (random.units(n), vec![0.0; n]);
            kernels.gate(&gate, &up, &mut out);
            for ((x, up), out) in gate.iter().zip(&up).zip(out) {
                let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp()) * f64::from(*up);
                // The exponential's 2e-7, and four roundings; what e^-87 stands for is nothing.
                let budget = (2e-7 + 2.0 * f64::from(f32::EPSILON)) * exact.abs() + 200.0 * (-87f64).exp();
                assert!((f64::from(out) - exact).abs() <= budget, "{}: {out}, {exact}", kernels.name);
            }
        }
        let (gate, up, mut out) = ([f32::NAN, f32::INFINITY, f32::NEG_INFINITY], [1.0; 3], [0.0; 3]);
        kernels.gate(&gate, &up, &mut out);
        assert!(out[0].is_nan() && out[1] == f32::INFINITY, "{}: {out:?}", kernels.name);
    }
}

#[test]
fn rotations_turn_the_pairs_they_name() {
    let mut random = Random(23);
    for kernels in Kernels::available() {
        for half in [1, 8, 32, 37] {
            let x = random.units(2 * half);
            let angles = random.units(half);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            for adjacent in [false, true] {
                let mut out = x.clone();
                if adjacent {
                    kernels.rotate_adjacent(&mut out, &cos, &sin);
                } else {
                    kernels.rotate_halves(&mut out, &cos, &sin);
                }
                for i in 0..half {
                    let [a, b] = if adjacent { [2 * i, 2 * i + 1] } else { [i, i + half] };
                    let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
                    for (at, exact) in
                        [(a, f64::from(x[a]) * c - f64::from(x[b]) * s), (b, f64::from(x[a]) * s + f64::from(x[b]) * c)]
                    {
                        assert!((f64::from(out[at]) - exact).abs() <= bound(2, 2.0), "{}: {}, {exact}", kernels.name, out[at]);
                    }
                }
            }
        }
    }
}
