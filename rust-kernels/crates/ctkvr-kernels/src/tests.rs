//! Every table of this machine against plain f64 arithmetic, with budgets from the standard error bound of a sum of n products in
//! f32: |error| <= n u sum|a b| / (1 - n u), u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).

use super::kv_format::Q8_BLOCK;
use super::*;
use half::f16;

/// A small generator (SplitMix64): tests need no more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

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
            let row = random.vec(d);
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
        for head_dim in [16, 64, 80, 96, 128] {
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
        for group in [1, 3, 5, 7] {
            for n in [0, 1, 7, 16, 17, 33, 300] {
                let start = PAGE_SIZE - n.min(20);
                let len = n.min(2 * PAGE_SIZE - start);
                let positions: Vec<u32> = (0..n).map(|i| (i * 37 % (2 * PAGE_SIZE)) as u32).collect();
                let run = Rows::run(&pointers, layout, KvSide::Keys, start, len);
                check_rows(kernels, &mut random, &pages, &run, |i| start + i, group);
                let list = Rows::list(&pointers, layout, KvSide::Keys, &positions);
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
        let run = Rows::run(&pointers, layout, KvSide::Keys, 100, n);
        for rows in [run, Rows::list(&pointers, layout, KvSide::Keys, &positions)] {
            for group in [1, 3, 7] {
                let q = random.vec(group * d);
                let scored = |cuts: &[usize]| {
                    let mut out = vec![f32::NAN; group * n];
                    for cut in cuts.windows(2) {
                        // SAFETY: q and out hold what the kernel reads and writes: columns of the part's rows.
                        unsafe {
                            let part = rows.part(cut[0], cut[1] - cut[0]);
                            (kernels.score_rows)(q.as_ptr(), group, &part, out.as_mut_ptr().add(cut[0]), n);
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
        let rows = Rows::list(&pointers, layout, KvSide::Keys, &positions);
        let mut out = vec![f32::NAN; 5 * d];
        // SAFETY: there is room for five rows.
        unsafe { (kernels.widen_rows)(&rows, out.as_mut_ptr()) };
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
    let q = random.vec(group * d);
    let mut out = vec![f32::NAN; group * stride];
    let weights = random.vec(group * stride);
    let mut acc = random.vec(group * d);
    let before = acc.clone();
    // SAFETY: buffers have the sizes that the kernels name.
    unsafe {
        (kernels.score_rows)(q.as_ptr(), group, rows, out.as_mut_ptr(), stride);
        (kernels.add_weighted_rows)(weights.as_ptr(), stride, group, rows, acc.as_mut_ptr());
    }
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
            let x: Vec<f32> = Random(n as u64).vec(n).into_iter().map(|v| v * 40.0).collect();
            // SAFETY: x holds n values.
            let max = unsafe { (kernels.max)(x.as_ptr(), n) };
            assert_eq!(max, x.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{} max of {n}", kernels.name);
            let mut e = x.clone();
            // SAFETY: e holds n values.
            let sum = unsafe { (kernels.exp_sub)(e.as_mut_ptr(), n, if n == 0 { 0.0 } else { max }) };
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
        for (m, n, k) in [(1, 16, 1), (6, 64, 64), (7, 80, 33), (13, 128, 64), (20, 48, 128)] {
            let mut random = Random((m * n * k) as u64);
            let (a, b) = (random.vec(m * (k + 1)), random.vec(k * n));
            for accumulate in [false, true] {
                let before = random.vec(m * (n + 2));
                let mut c = before.clone();
                let job =
                    Gemm { a: a.as_ptr(), lda: k + 1, b: b.as_ptr(), ldb: n, c: c.as_mut_ptr(), ldc: n + 2, m, n, k, accumulate };
                // SAFETY: the matrices hold what the job says.
                unsafe { (kernels.gemm)(&job) };
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
        let codes: Vec<i8> = (0..n * d).map(|_| (random.next() * 127.0) as i8).collect();
        let q: Vec<f32> = (0..d).map(|_| (random.next() * 8.0).trunc()).collect();
        for n in [n, 1, 3] {
            let mut out = vec![f32::NAN; n + 1];
            // SAFETY: buffers have the sizes that the kernels name.
            unsafe { (kernels.score_codes)(q.as_ptr(), codes.as_ptr(), n, d, out.as_mut_ptr()) };
            for i in 0..n {
                let exact: f32 = (0..d).map(|c| q[c] * f32::from(codes[i * d + c])).sum();
                assert_eq!(out[i], exact, "{} codes row {i} of {n}", kernels.name);
            }
            assert!(out[n].is_nan(), "wrote past n");
        }
        let x: Vec<f32> = (0..48).map(|i| i as f32 * 1.5 - 30.0).collect();
        let (mut halves, mut back) = (vec![0u16; 48], vec![0f32; 48]);
        let (mut sum, mut scaled) = (vec![1f32; 37], x.clone());
        // SAFETY: as above; 37 values of x are read.
        unsafe {
            (kernels.narrow)(x.as_ptr(), 48, halves.as_mut_ptr());
            (kernels.widen)(halves.as_ptr(), 48, back.as_mut_ptr());
            (kernels.add_scaled)(x.as_ptr(), 37, 2.0, sum.as_mut_ptr());
            (kernels.scale)(scaled.as_mut_ptr(), 37, 3.0);
        }
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
        let mut x = random.vec(4 * Q8_BLOCK);
        x[Q8_BLOCK..2 * Q8_BLOCK].iter_mut().for_each(|x| *x *= 1e-3);
        x[2 * Q8_BLOCK..3 * Q8_BLOCK].fill(0.0);
        // Whole numbers up to 127 stay what they are.
        x[3 * Q8_BLOCK..].iter_mut().for_each(|x| *x = (*x * 127.0).round());
        x[3 * Q8_BLOCK + 5] = -127.0;
        let (mut codes, mut scales) = (vec![0i8; x.len()], vec![f32::NAN; 5]);
        // SAFETY: four blocks.
        unsafe { (kernels.quantise)(x.as_ptr(), x.len(), codes.as_mut_ptr(), scales.as_mut_ptr()) };
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
            // SAFETY: two blocks.
            unsafe { (kernels.quantise)(x.as_ptr(), x.len(), codes.as_mut_ptr(), scales.as_mut_ptr()) };
            assert!(scales[0].is_nan() && scales[1] == 1.0 / 127.0, "{} {odd}", kernels.name);
        }
        // Too small for a scale that has an inverse.
        let tiny = [1e-37f32; Q8_BLOCK];
        // SAFETY: one block.
        unsafe { (kernels.quantise)(tiny.as_ptr(), Q8_BLOCK, codes.as_mut_ptr(), scales.as_mut_ptr()) };
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
            let marks: Vec<u8> = random.vec(256).iter().map(|x| if *x < density { 255 } else { 0 }).collect();
            let expected: Vec<u32> = (0..256).filter(|i| marks[*i as usize] == 255).map(|i| 7 + i).collect();
            let mut out = vec![u32::MAX; expected.len() + 64];
            // SAFETY: 256 marks, and room for 64 positions more.
            let len = unsafe { (kernels.marked)(marks.as_ptr(), marks.len(), 7, out.as_mut_ptr()) };
            assert_eq!(out[..len], expected, "{}", kernels.name);
        }
    }
}

#[test]
fn missed_weights_are_added_up() {
    let mut random = Random(12);
    for kernels in Kernels::available() {
        for n in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
            let weights: Vec<f32> = random.vec(n).iter().map(|x| x.abs()).collect();
            let marks: Vec<u8> = random.vec(n).iter().map(|x| if *x < 0.3 { 255 } else { 0 }).collect();
            // SAFETY: both hold n values.
            let actual = unsafe { (kernels.missed_sums)(weights.as_ptr(), marks.as_ptr(), n) };
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
            let (x, weight) = (random.vec(n), random.vec(n));
            let mut out = vec![0.0; n];
            // SAFETY: all hold n values.
            unsafe { (kernels.rms_norm)(x.as_ptr(), weight.as_ptr(), n, 1e-5, out.as_mut_ptr()) };
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
fn gates_match_f64() {
    let mut random = Random(22);
    for kernels in Kernels::available() {
        for n in [1, 63, 64, 65, 1536] {
            let mut gate: Vec<f32> = random.vec(n).into_iter().map(|x| 30.0 * x).collect();
            gate[0] = -200.0;
            let (up, mut out) = (random.vec(n), vec![0.0; n]);
            // SAFETY: all hold n values.
            unsafe { (kernels.gate)(gate.as_ptr(), up.as_ptr(), n, out.as_mut_ptr()) };
            for ((x, up), out) in gate.iter().zip(&up).zip(out) {
                let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp()) * f64::from(*up);
                // The exponential's 2e-7, and four roundings; what e^-87 stands for is nothing.
                let budget = (2e-7 + 2.0 * f64::from(f32::EPSILON)) * exact.abs() + 200.0 * (-87f64).exp();
                assert!((f64::from(out) - exact).abs() <= budget, "{}: {out}, {exact}", kernels.name);
            }
        }
        let (gate, up, mut out) = ([f32::NAN, f32::INFINITY, f32::NEG_INFINITY], [1.0; 3], [0.0; 3]);
        // SAFETY: all hold 3 values.
        unsafe { (kernels.gate)(gate.as_ptr(), up.as_ptr(), 3, out.as_mut_ptr()) };
        assert!(out[0].is_nan() && out[1] == f32::INFINITY, "{}: {out:?}", kernels.name);
    }
}

#[test]
fn rotations_turn_the_pairs_they_name() {
    let mut random = Random(23);
    for kernels in Kernels::available() {
        for half in [1, 8, 32, 37] {
            let x = random.vec(2 * half);
            let angles = random.vec(half);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            for (rotate, adjacent) in [(kernels.rotate_halves, false), (kernels.rotate_adjacent, true)] {
                let mut out = x.clone();
                // SAFETY: 2 * half values, half turns.
                unsafe { rotate(out.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), half) };
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
