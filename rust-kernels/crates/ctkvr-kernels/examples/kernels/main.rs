//! Times the kernels of every instruction set that this machine has, and its arithmetic peak. Prints JSON, one figure a line; the suite
//! `kernels` of apps/benchmarks runs it and knows the memory bandwidth to compare with.
//!
//! `scripts/cargo run --release -p ctkvr-kernels --example kernels -- [--threads N] [--rounds N] [--peak] [--kernel NAME]`; `--peak`: the
//! peak alone; `--kernel`: only kernels whose name begins like this.
//!
//! To add a kernel: a [`job::Job`] and its line in [`job::cases`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its figures are what it prints")]

mod clock;
mod job;
mod kv_store;
mod peak;
mod tile_job;

use std::process::ExitCode;

use ctkvr_kernels::Kernels;
use serde_json::json;

use crate::clock::{Samples, time_case};

struct Options {
    /// That work at once, each on data of its own.
    threads: usize,
    rounds: usize,
    peak_only: bool,
    kernel: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        let mut options = Self { threads, rounds: 5, peak_only: false, kernel: String::new() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--threads" => options.threads = count(&arg, args.next())?,
                "--rounds" => options.rounds = count(&arg, args.next())?,
                "--peak" => options.peak_only = true,
                "--kernel" => options.kernel = args.next().ok_or("--kernel takes the beginning of a name")?,
                _ => return Err(format!("unknown argument {arg}: there are --threads N, --rounds N, --peak, --kernel NAME")),
            }
        }
        Ok(options)
    }
}

fn count(option: &str, value: Option<String>) -> Result<usize, String> {
    let value = value.unwrap_or_default();
    value.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{option} takes a whole number above 0, got '{value}'"))
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) => {
            run(&options);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("kernels: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) {
    let &Options { threads, rounds, peak_only, ref kernel } = options;
    let all = Kernels::available();
    for kernels in &all {
        let gflops = peak::gflops(kernels.name, threads);
        let dtype = job::own_dtype(kernels);
        println!("{}", json!({ "type": "peak", "isa": kernels.name, "dtype": dtype, "threads": threads, "gflops": gflops }));
    }
    if peak_only {
        return;
    }
    for case in job::cases().into_iter().filter(|case| case.kernel.starts_with(kernel)) {
        let suited: Vec<&Kernels> = all.iter().copied().filter(|kernels| case.suits(kernels)).collect();
        if suited.is_empty() {
            continue;
        }
        let work = (case.make)().work();
        for (kernels, samples) in suited.iter().zip(time_case(&case, &suited, threads, rounds)) {
            let Samples { median_ms, p10_ms, p90_ms } = samples;
            let line = json!({
                "type": "kernel",
                "kernel": case.kernel,
                "rows": case.rows,
                "data": case.data,
                "dtype": case.dtype,
                "isa": kernels.name,
                "threads": threads,
                // Of all threads together, in the time below.
                "bytes": work.bytes * threads,
                "flops": work.flops * threads,
                "medianMs": median_ms,
                "p10Ms": p10_ms,
                "p90Ms": p90_ms,
                "numSamples": rounds,
            });
            println!("{line}");
        }
    }
}
