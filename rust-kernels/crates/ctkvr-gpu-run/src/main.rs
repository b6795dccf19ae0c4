//! The steps of scripts/gpu/run, each a command of this program that prints JSON lines: docs/guide/devices.md says what they show.
//!
//! `ctkvr-gpu-run <step> [--shape llama|tiny]`, `… tests <program> <step's name> [filter …]`, `… report <lines> <folder>`.

mod batch;
mod ceilings;
mod decode;
mod facts;
mod heads;
mod host_mode;
mod index;
mod kernels;
mod line;
mod model;
mod prefill;
mod q4;
mod report;
mod rows;
mod sequences;
mod shape;
mod tests_of;
mod timing;

use std::io::Write;
use std::process::ExitCode;

use ctkvr_cuda::Device;
use ctkvr_cuda::launch::{FAMILIES, MEASURING};

use crate::shape::Shape;

/// What goes wrong is printed and ends the step: the next one is another process.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The first device, with every kernel.
fn open() -> Result<Device> {
    Ok(Device::open_with(0, &[FAMILIES, MEASURING].concat())?)
}

fn run(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (step, rest) = arguments.split_first().ok_or("which step?")?;
    let shape = || {
        let name = match rest {
            [] => "llama",
            ["--shape", name] => name,
            _ => return Err(format!("{rest:?} is no option of {step}")),
        };
        Shape::named(name).ok_or(format!("there is no shape {name}"))
    };
    match (*step, rest) {
        ("facts", []) => facts::run(),
        ("tests", [program, name, filters @ ..]) => tests_of::run(program, name, filters),
        ("ceilings", _) => ceilings::run(shape()?),
        ("kernels", _) => kernels::run(shape()?),
        ("decode", _) => decode::run(shape()?),
        ("index", _) => index::run(shape()?),
        ("prefill", _) => prefill::run(shape()?),
        ("report", [lines, folder]) => report::run(lines.as_ref(), folder.as_ref()),
        _ => Err(format!("there is no step {step} with {rest:?}").into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when this cannot be written.
            let _ = writeln!(std::io::stderr(), "ctkvr-gpu-run: {error}");
            ExitCode::FAILURE
        }
    }
}
