//! A token of 1, 2, 4 and 8 sequences: everything read, and CTkvr. Whole steps, and attention with its search alone, in turns.

use crate::Result;
use crate::batch::{Batch, Reads};
use crate::ceilings::read_gb_a_second;
use crate::heads::{MADE, MadeHead};
use crate::line::Line;
use crate::model::Model;
use crate::sequences::Sequence;
use crate::shape::Shape;
use crate::timing::Timer;

pub fn run(shape: &'static Shape) -> Result<()> {
    let device = crate::open()?;
    let gb_a_second = read_gb_a_second(&device, shape)?;
    let made = MadeHead::all(shape)?;
    for head in &made {
        let line = Line::of("index").count("positions", shape.context).count("threads_side_by_side", MADE);
        line.number("ms_of_a_head", head.build_ms).print()?;
    }
    let model = Model::new(&device, shape, 1)?;
    let most = shape.batches.iter().copied().max().unwrap_or(1);
    let sequences = Sequence::some(&device, shape, &made, most)?;
    for n in shape.batches {
        if *n > sequences.len() {
            Line::of("decode").count("sequences", *n).text("note", "do not fit in the device's memory").print()?;
            continue;
        }
        measure(&Batch::new(&model, &made, &sequences[..*n])?, gb_a_second)?;
    }
    Ok(())
}

fn measure(batch: &Batch, gb_a_second: f64) -> Result<()> {
    let (device, n) = (batch.model.device, batch.rows.n);
    let stream = device.compute();
    let contenders = [Reads::Everything, Reads::Chosen];
    let mut graphs = Vec::new();
    for reads in contenders {
        graphs.push(stream.capture(|| batch.step(reads))?);
        graphs.push(stream.capture(|| batch.attend_layers(reads))?);
    }
    let times = Timer::new(device)?.of_graphs(&graphs, batch.model.shape.rounds)?;
    let searched = batch.searched()?;
    let weights = batch.model.num_bytes();
    for (i, reads) in contenders.into_iter().enumerate() {
        let (step, attention) = (times[2 * i], times[2 * i + 1]);
        let bytes = batch.attention_bytes(reads, &searched);
        let ceiling = |bytes: usize| bytes as f64 / 1e6 / gb_a_second;
        let mut line = Line::of("decode")
            .count("sequences", n)
            .text("reads", reads.name())
            .number("step_ms", step)
            .number("tokens_s", n as f64 * 1e3 / step)
            .number("step_gb", (weights + bytes) as f64 / 1e9)
            .number("step_percent", 100.0 * ceiling(weights + bytes) / step)
            .number("attention_ms", attention)
            .number("attention_gb", bytes as f64 / 1e9)
            .number("attention_percent", 100.0 * ceiling(bytes) / attention)
            .number("read_gb_s", gb_a_second);
        if reads == Reads::Chosen {
            let of_slots = |sum: usize| sum as f64 / searched.slots as f64;
            line = line
                .number("step_times_dense", times[0] / step)
                .number("attention_times_dense", times[1] / attention)
                .number("scored_a_head", of_slots(searched.candidates))
                .number("selected_a_head", of_slots(searched.selected))
                .number("cosine", batch.cosine_to_everything()?);
        }
        line.print()?;
    }
    Ok(())
}
