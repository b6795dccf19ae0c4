//! What a step brings to the device of its rows, whatever they are.

use ctkvr_engine::{Batch, Result};

use crate::launch::slot::RowPlace;
use crate::on_device::OnDevice;

/// Rows of the embedding, angles, places and page tables. Returns where each sequence's table begins, on the device.
pub(crate) fn upload_rows(on: &OnDevice, batch: &Batch) -> Result<Vec<u64>> {
    let OnDevice { memory, device, weights, model, .. } = on;
    let (stream, embedding) = (device.compute(), &model.spec().description.embedding);
    let matrix = weights.matrices.get(model, &embedding.rows.weight_name())?;
    let mut hidden: Vec<f32> = batch.tokens.iter().flat_map(|token| matrix.row(*token as usize)).collect();
    hidden.iter_mut().for_each(|x| *x *= embedding.scale);
    stream.copy_in(memory.hidden.span().part(0..hidden.len()), &hidden)?;

    let (rows, pairs) = (batch.num_rows(), weights.rotary.num_pairs());
    let (mut cos, mut sin) = (vec![0.0; rows * pairs], vec![0.0; rows * pairs]);
    for ((position, cos), sin) in batch.positions.iter().zip(cos.chunks_exact_mut(pairs)).zip(sin.chunks_exact_mut(pairs)) {
        weights.rotary.write(*position, cos, sin);
    }
    stream.copy_in(memory.cos.span().part(0..cos.len()), &cos)?;
    stream.copy_in(memory.sin.span().part(0..sin.len()), &sin)?;

    let (mut tables, mut begins, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for of in &batch.sequences {
        let begin = memory.page_tables.span().address() + (tables.len() * size_of::<u64>()) as u64;
        tables.extend(of.sequence.kv.pages().iter().map(|page| page.address() as u64));
        begins.push(begin);
        places.extend((0..of.append.num_rows).map(|i| RowPlace {
            pages: begin,
            position: (of.sequence.len + i) as u32,
            reserved: 0,
        }));
    }
    stream.copy_in(memory.page_tables.span().part(0..tables.len()), &tables)?;
    stream.copy_in(memory.places.span().part(0..rows), &places)?;
    Ok(begins)
}
