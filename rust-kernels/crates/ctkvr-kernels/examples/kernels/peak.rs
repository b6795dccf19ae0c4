//! The arithmetic peak of a kernel set: chains of multiply-adds in registers, as many side by side as hide their latency.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Independent chains: two units of a latency of four or five are kept busy, and 16 registers hold them with their factors.
const CHAINS: usize = 12;
/// Multiply-adds of one chain in a sample: some milliseconds.
const STEPS: usize = 4_000_000;
/// The best counts: it is the limit that is asked for.
const SAMPLES: usize = 5;

/// Runs `STEPS` instructions in each chain; returns how many products one of them adds.
type Chains = fn() -> usize;

/// Additions and multiplications a second, in billions, of all threads together, of what the set multiplies itself
/// ([`crate::job::own_dtype`]).
pub(crate) fn gflops(isa: &str, threads: usize) -> f64 {
    let run = chains(isa);
    let meeting = Barrier::new(threads);
    let work = || {
        let products = run();
        let best = (0..SAMPLES).map(|_| {
            meeting.wait();
            let started = Instant::now();
            run();
            meeting.wait();
            started.elapsed().as_secs_f64()
        });
        2.0 * (products * CHAINS * STEPS) as f64 / best.fold(f64::INFINITY, f64::min) / 1e9
    };
    let one = std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work()
    });
    one * threads as f64
}

/// Those of a kernel set that this machine has.
fn chains(isa: &str) -> Chains {
    match isa {
        #[cfg(target_arch = "x86_64")]
        "amx" => amx,
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller found the kernel set on this machine.
        "avx512bf16" => || unsafe { avx512_bf16() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        "avx512vnni" => || unsafe { avx512_vnni() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        "avx512" => || unsafe { avx512() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        "avx2" => || unsafe { avx2() },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        "neon" => || unsafe { neon() },
        _ => portable,
    }
}

/// x = x a + b goes to b / (1 - a): it stays finite, and never gets so small that it is slow.
const A: f32 = 0.999;
const B: f32 = 0.001;

/// Tiles of pairs of bf16, all zero: four chains are enough where one instruction keeps the unit busy for 16 cycles.
#[cfg(target_arch = "x86_64")]
fn amx() -> usize {
    // Palette 1; eight tiles of 16 rows of 64 bytes.
    #[repr(align(64))]
    struct Config([u8; 64]);
    let mut config = Config([0; 64]);
    config.0[0] = 1;
    (0..8).for_each(|tile| (config.0[16 + 2 * tile], config.0[48 + tile]) = (64, 16));
    // SAFETY: the caller found the kernel set on this machine, whose use this process has been permitted by then.
    unsafe {
        std::arch::asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", "tilezero tmm4", "tilezero tmm5",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm5", "tdpbf16ps tmm1, tmm4, tmm5",
            "tdpbf16ps tmm2, tmm4, tmm5", "tdpbf16ps tmm3, tmm4, tmm5",
            "sub {steps}, 1", "jnz 2b",
            "tilerelease",
            config = in(reg) config.0.as_ptr(),
            steps = inout(reg) STEPS * CHAINS / 4 => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _,
            options(nostack),
        );
    }
    16 * 16 * 32
}

/// Pairs of bf16: sums of products so small that they stay small over all steps.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn avx512_bf16() -> usize {
    use std::arch::x86_64::{__m512bh, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_set1_ps, _mm512_setzero_ps};
    let factor = _mm512_set1_ps(black_box(B));
    let ab: __m512bh = _mm512_cvtne2ps_pbh(factor, factor);
    let mut x = [_mm512_setzero_ps(); CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().for_each(|x| *x = _mm512_dpbf16_ps(*x, ab, ab));
    }
    black_box(x);
    32
}

/// Fours of bytes: sums that wrap around no slower than others.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn avx512_vnni() -> usize {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_set1_epi8, _mm512_setzero_si512};
    let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
    let mut x = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().for_each(|x| *x = _mm512_dpbusd_epi32(*x, a, b));
    }
    black_box(x);
    64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() -> usize {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps};
    let (a, b) = (_mm512_set1_ps(black_box(A)), _mm512_set1_ps(black_box(B)));
    let mut x = [_mm512_set1_ps(0.5); CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().for_each(|x| *x = _mm512_fmadd_ps(*x, a, b));
    }
    black_box(x);
    16
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() -> usize {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps};
    let (a, b) = (_mm256_set1_ps(black_box(A)), _mm256_set1_ps(black_box(B)));
    let mut x = [_mm256_set1_ps(0.5); CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().for_each(|x| *x = _mm256_fmadd_ps(*x, a, b));
    }
    black_box(x);
    8
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn neon() -> usize {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    let (a, b) = (vdupq_n_f32(black_box(A)), vdupq_n_f32(black_box(B)));
    let mut x = [vdupq_n_f32(0.5); CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().for_each(|x| *x = vfmaq_f32(b, *x, a));
    }
    black_box(x);
    4
}

/// Multiplications and additions of the baseline, which the compiler puts into its vectors.
fn portable() -> usize {
    const LANES: usize = 4;
    let (a, b) = (black_box(A), black_box(B));
    let mut x = [[0.5f32; LANES]; CHAINS];
    for _ in 0..STEPS {
        x.iter_mut().flatten().for_each(|x| *x = *x * a + b);
    }
    black_box(x);
    LANES
}
