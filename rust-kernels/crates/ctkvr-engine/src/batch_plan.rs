//! Cuts a step's entries into chunks of bounded rows; one chunk is one batch for the executor.

use ctkvr_core::Phase;

use crate::step::{StepEntry, StepOutput};

/// Rows of one batch, those of decodes first.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    /// One for each entry that takes part, in the order of rows.
    pub parts: Vec<ChunkPart>,
    /// i32 `[num_rows]`.
    pub tokens: Vec<i32>,
    /// i32 `[num_rows]`.
    pub positions: Vec<i32>,
    /// Rows whose logits are wanted, ascending.
    pub output_rows: Vec<usize>,
    /// Which entry each of `output_rows` is.
    pub output_entries: Vec<usize>,
}

/// Rows of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkPart {
    pub entry: usize,
    pub phase: Phase,
    pub num_rows: usize,
}

/// Chunks of `max_rows` rows at most, entries of decodes first, otherwise in order. `lengths` are the sequences' lengths before the step, one
/// for each entry.
pub(crate) fn plan_chunks(entries: &[StepEntry], lengths: &[usize], max_rows: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    let of = |phase: Phase| entries.iter().enumerate().filter(move |(_, entry)| entry.phase == phase);
    for (index, entry) in of(Phase::Decode).chain(of(Phase::Prefill)) {
        let mut done = 0;
        while done < entry.tokens.len() {
            if chunk.tokens.len() == max_rows {
                chunks.push(std::mem::take(&mut chunk));
            }
            let take = (max_rows - chunk.tokens.len()).min(entry.tokens.len() - done);
            chunk.parts.push(ChunkPart { entry: index, phase: entry.phase, num_rows: take });
            chunk.tokens.extend_from_slice(&entry.tokens[done..done + take]);
            chunk.positions.extend((lengths[index] + done..lengths[index] + done + take).map(|position| position as i32));
            done += take;
            if done == entry.tokens.len() && entry.output != StepOutput::None {
                chunk.output_rows.push(chunk.tokens.len() - 1);
                chunk.output_entries.push(index);
            }
        }
    }
    if !chunk.tokens.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use ctkvr_core::SequenceId;

    fn entry<'a>(sequence: u64, tokens: &'a [i32], phase: Phase, output: StepOutput) -> StepEntry<'a> {
        StepEntry { sequence: SequenceId(sequence), tokens, phase, output }
    }

    #[test]
    fn a_prefill_behind_a_decode_is_cut_and_goes_on_in_the_next_chunk() {
        let prompt: Vec<i32> = (10..15).collect();
        let entries = [entry(1, &[7], Phase::Decode, StepOutput::Sample), entry(2, &prompt, Phase::Prefill, StepOutput::Logits)];
        let chunks = plan_chunks(&entries, &[100, 3], 4);
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[0].tokens, [7, 10, 11, 12]);
        assert_eq!(chunks[0].positions, [100, 3, 4, 5]);
        assert_eq!(chunks[0].output_rows, [0]);
        assert_eq!(chunks[0].parts[1], ChunkPart { entry: 1, phase: Phase::Prefill, num_rows: 3 });
        assert_eq!(chunks[1].tokens, [13, 14]);
        assert_eq!(chunks[1].positions, [6, 7]);
        assert_eq!((chunks[1].output_rows.as_slice(), chunks[1].output_entries.as_slice()), ([1].as_slice(), [1].as_slice()));
    }

    #[test]
    fn decodes_come_first() {
        let entries = [entry(1, &[7, 8], Phase::Prefill, StepOutput::Sample), entry(2, &[9], Phase::Decode, StepOutput::Sample)];
        let chunks = plan_chunks(&entries, &[100, 3], 4);
        assert_eq!((chunks[0].tokens.as_slice(), chunks[0].positions.as_slice()), ([9, 7, 8].as_slice(), [3, 100, 101].as_slice()));
        assert_eq!(chunks[0].output_rows, [0, 2]);
        assert_eq!((chunks[0].parts[0].entry, chunks[0].output_entries.as_slice()), (1, [1, 0].as_slice()));
        assert_eq!(chunks[0].parts[1], ChunkPart { entry: 0, phase: Phase::Prefill, num_rows: 2 });
    }

    #[test]
    fn a_prefill_of_exactly_one_chunk_makes_one_chunk() {
        let prompt = [1, 2, 3, 4];
        let chunks = plan_chunks(&[entry(1, &prompt, Phase::Prefill, StepOutput::None)], &[0], 4);
        assert_eq!(chunks.len(), 1);
        assert!(chunks[0].output_rows.is_empty());
    }

    #[test]
    fn the_last_token_of_a_long_prefill_stays_prefill_when_it_is_alone_in_its_chunk() {
        let prompt = [1, 2, 3];
        let chunks = plan_chunks(&[entry(1, &prompt, Phase::Prefill, StepOutput::Sample)], &[0], 2);
        assert_eq!(chunks[1].parts[0].phase, Phase::Prefill);
        assert_eq!(chunks[1].output_rows, [0]);
    }
}
