//! A token of 1, 2, 4 and 8 sequences: everything read, CTkvr, and CTkvr with keys and values in host memory. Whole steps, and attention with its
//! search alone where it is all on the device, in turns.

use crate::Result;
use crate::batch::{Batch, Keys, Reads};
use crate::ceilings::read_gb_a_second;
use crate::heads::MadeHead;
use crate::host_mode::{HostMode, HostPages};
use crate::line::Line;
use crate::model::Model;
use crate::sequences::Sequence;
use crate::shape::Shape;
use crate::timing::{Contender, Timer, in_turns, median};

pub fn run(shape: &'static Shape) -> Result<()> {
    let device = crate::open()?;
    let gb_a_second = read_gb_a_second(&device, shape)?;
    let made = MadeHead::all(shape)?;
    let model = Model::new(&device, shape, 1)?;
    let most = shape.batches.iter().copied().max().unwrap_or(1);
    let sequences = Sequence::some(&device, shape, &made, most)?;
    let host = match HostPages::new(&device, shape, &made) {
        Ok(pages) => Some(pages),
        Err(error @ ctkvr_cuda::Error::OutOfMemory { .. }) => {
            Line::of("decode").text("reads", "host").text("note", &error.to_string()).print()?;
            None
        }
        Err(error) => return Err(error.into()),
    };
    for n in shape.batches {
        if *n > sequences.len() {
            Line::of("decode").count("sequences", *n).text("note", "do not fit in the device's memory").print()?;
            continue;
        }
        let sequences = &sequences[..*n];
        let host = host.as_ref().map(|pages| HostMode::new(&model, &made, sequences, pages)).transpose()?;
        measure(&Batch::new(&model, &made, sequences, Keys::OnDevice)?, host, gb_a_second)?;
    }
    Ok(())
}

fn measure(batch: &Batch, mut host: Option<HostMode>, gb_a_second: f64) -> Result<()> {
    let (device, n) = (batch.model.device, batch.rows.n);
    let (stream, timer) = (device.compute(), Timer::new(device)?);
    let on_device = [Reads::Everything, Reads::Chosen];
    let mut graphs = Vec::new();
    for reads in on_device {
        graphs.push(stream.capture(|| batch.step(reads))?);
        graphs.push(stream.capture(|| batch.attend_layers(reads))?);
    }
    let mut cpu_ms = Vec::new();
    let mut contenders: Vec<Contender> = graphs.iter().map(|graph| -> Contender { Box::new(|| timer.of_graph(graph)) }).collect();
    if let Some(host) = &mut host {
        contenders.push(Box::new(|| {
            let ms = host.step()?;
            cpu_ms.push(host.cpu_ms);
            Ok(ms)
        }));
    }
    let times = in_turns(&mut contenders, batch.model.shape.rounds)?;
    drop(contenders);
    let searched = batch.searched()?;
    let weights = batch.model.num_bytes();
    let line = |reads: &str, step: f64| {
        let line = Line::of("decode").count("sequences", n).text("reads", reads).number("step_ms", step);
        line.number("tokens_s", n as f64 * 1e3 / step).number("step_times_dense", times[0] / step)
    };
    for (i, reads) in on_device.into_iter().enumerate() {
        let (step, attention) = (times[2 * i], times[2 * i + 1]);
        let bytes = batch.attention_bytes(reads, &searched);
        let ceiling = |bytes: usize| bytes as f64 / 1e6 / gb_a_second;
        let mut line = line(reads.name(), step)
            .number("step_gb", (weights + bytes) as f64 / 1e9)
            .number("step_percent", 100.0 * ceiling(weights + bytes) / step)
            .number("attention_ms", attention)
            .number("attention_gb", bytes as f64 / 1e9)
            .number("attention_percent", 100.0 * ceiling(bytes) / attention)
            .number("attention_times_dense", times[1] / attention)
            .number("read_gb_s", gb_a_second);
        if reads == Reads::Chosen {
            let of_slots = |sum: usize| sum as f64 / searched.slots as f64;
            line = line
                .number("scored_a_head", of_slots(searched.candidates))
                .number("selected_a_head", of_slots(searched.selected))
                .number("cosine", batch.cosine_to_everything(|layer| Ok(batch.attend(layer, reads)?))?);
        }
        line.print()?;
    }
    let Some(host) = host else { return Ok(()) };
    line("ctkvr, host", times[2 * on_device.len()])
        .number("cpu_ms", median(cpu_ms))
        .number("cosine", host.cosine_to_everything()?)
        .print()
}
