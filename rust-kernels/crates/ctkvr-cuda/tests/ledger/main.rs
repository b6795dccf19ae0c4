//! The ledger: what every kernel reads and writes, counted in the stand-in, is what the formulas beside its launcher say, to the byte. Shapes
//! cross the kernels' edges. `npm run test:gpu -- cuda-ledger`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

mod attention;
mod between;
mod builds;
mod itself;
mod linear;
mod retrieval_bytes;

#[path = "../kernels/built/mod.rs"]
#[allow(dead_code, reason = "of other tests")]
mod built;
#[path = "../kernels/linear_parts/mod.rs"]
#[allow(dead_code, reason = "of other tests")]
mod linear_parts;
#[path = "../kernels/paged/mod.rs"]
#[allow(dead_code, reason = "of other tests")]
mod paged;
#[path = "../kernels/retrieval/mod.rs"]
#[allow(dead_code, reason = "of other tests")]
mod retrieval;

use ctkvr_cuda::launch::traffic::Traffic;
use ctkvr_cuda::stand_in::Session;
use ctkvr_cuda::stand_in::ledger::Counted;

/// What these kernels have read and written together, since this was asked last. They have been launched, and nobody else has.
fn counted(session: &Session, kernels: &[&str]) -> Counted {
    let mut all = Counted::default();
    for kernel in kernels {
        let one = session.counted(kernel);
        assert!(one.launches > 0, "{kernel} was not launched");
        all.launches += one.launches;
        all.stored += one.stored;
        all.passed += one.passed;
        all.bookkeeping += one.bookkeeping;
        all.written += one.written;
        all.by_blocks += one.by_blocks;
        all.asked += one.asked;
        all.sectors += one.sectors;
        all.fresh += one.fresh;
    }
    session.forget_counted();
    all
}

fn traffic(counted: &Counted) -> Traffic {
    let [stored, passed, written] = [counted.stored, counted.passed, counted.written].map(|n| n as usize);
    Traffic { stored, passed, written }
}
