//! What a step brings of its rows, written where its inputs are.

use ctkvr_core::Phase;
use ctkvr_engine::Result;

use crate::batch_part::BatchPart;
use crate::launch::slot::RowPlace;
use crate::on_device::OnDevice;
use crate::page_tables::PageTables;
use crate::step_inputs::StepInputs;

/// Writes what a lane's step brings of its rows, whatever they are: rows of the embedding, angles, places, outputs and page tables.
///
/// # Errors
/// `Internal` of a model without an embedding.
pub(crate) fn write_rows(on: &mut OnDevice, lane: usize, part: &BatchPart, inputs: &StepInputs, tables: &PageTables) -> Result<()> {
    let OnDevice { lanes, weights, model, .. } = on;
    let block = &mut lanes[lane].memory.inputs;
    let (width, scale) = (model.spec().embedding_len, model.spec().description.embedding.scale);
    let matrix = weights.matrices.get(model, &weights.embedding)?;
    for (token, row) in part.tokens().iter().zip(block.host_mut(inputs.hidden).chunks_exact_mut(width)) {
        matrix.write_row(*token as usize, row);
        row.iter_mut().for_each(|x| *x *= scale);
    }

    let pairs = weights.rotary.num_pairs();
    let (cos, sin) = block.host_mut(inputs.angles).split_at_mut(inputs.angles.len() / 2);
    for ((position, cos), sin) in part.positions().iter().zip(cos.chunks_exact_mut(pairs)).zip(sin.chunks_exact_mut(pairs)) {
        weights.rotary.write(*position, cos, sin);
    }

    block.host_mut(inputs.page_tables).copy_from_slice(&tables.entries);
    let place = |table: u64, position: usize| RowPlace { pages: table, position: position as u32, reserved: 0 };
    for (i, (of, tables)) in part.sequences().iter().zip(&tables.sequences).enumerate() {
        let places = block.host_mut(inputs.places.part(part.rows_of(of)));
        places.iter_mut().enumerate().for_each(|(i, to)| *to = place(tables.device, of.sequence.len + i));
        if of.append.phase == Phase::Decode {
            // Decodes are the first sequences, of a row each.
            block.host_mut(inputs.recent_places)[i] = place(tables.recent, of.sequence.len);
            block.host_mut(inputs.host_places)[i] = place(tables.host, of.sequence.len);
        }
    }
    block.host_mut(inputs.output_rows).iter_mut().zip(part.output_rows()).for_each(|(to, row)| *to = row);
    Ok(())
}
