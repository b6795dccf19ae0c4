//! What a step brings to the device of its rows, whatever they are.

use ctkvr_core::Phase;
use ctkvr_engine::Result;

use crate::batch_part::BatchPart;
use crate::launch::slot::RowPlace;
use crate::on_device::OnDevice;
use crate::page_tables::{PageTables, SequenceTables};

/// Rows of the embedding, angles, places, outputs and page tables to a lane's memory. Returns where each sequence's tables begin, on the device.
pub(crate) fn upload_rows(on: &OnDevice, lane: usize, part: &BatchPart, mut tables: PageTables) -> Result<Vec<SequenceTables>> {
    let OnDevice { device, weights, model, .. } = on;
    let (memory, stream, embedding) = (on.memory(lane), device.compute(), &model.spec().description.embedding);
    let matrix = weights.matrices.get(model, &embedding.rows.weight_name())?;
    let mut hidden: Vec<f32> = part.tokens().iter().flat_map(|token| matrix.row(*token as usize)).collect();
    hidden.iter_mut().for_each(|x| *x *= embedding.scale);
    stream.copy_in(memory.hidden.span().part(0..hidden.len()), &hidden)?;

    let (rows, pairs) = (part.num_rows(), weights.rotary.num_pairs());
    let (mut cos, mut sin) = (vec![0.0; rows * pairs], vec![0.0; rows * pairs]);
    for ((position, cos), sin) in part.positions().iter().zip(cos.chunks_exact_mut(pairs)).zip(sin.chunks_exact_mut(pairs)) {
        weights.rotary.write(*position, cos, sin);
    }
    stream.copy_in(memory.cos.span().part(0..cos.len()), &cos)?;
    stream.copy_in(memory.sin.span().part(0..sin.len()), &sin)?;

    stream.copy_in(memory.page_tables.span().part(0..tables.entries.len()), &tables.entries)?;
    tables.at(memory.page_tables.span().address());
    let place = |table: u64, position: usize| RowPlace { pages: table, position: position as u32, reserved: 0 };
    let (mut places, mut recent, mut host) = (Vec::new(), Vec::new(), Vec::new());
    for (of, tables) in part.sequences().iter().zip(&tables.sequences) {
        places.extend((0..of.append.num_rows).map(|i| place(tables.device, of.sequence.len + i)));
        if of.append.phase == Phase::Decode {
            recent.push(place(tables.recent, of.sequence.len));
            host.push(place(tables.host, of.sequence.len));
        }
    }
    for (to, places) in [(&memory.places, places), (&memory.recent_places, recent), (&memory.host_places, host)] {
        stream.copy_in(to.span().part(0..places.len()), &places)?;
    }
    let outputs: Vec<u32> = part.output_rows().collect();
    stream.copy_in(memory.output_rows.span().part(0..outputs.len()), &outputs)?;
    Ok(tables.sequences)
}
