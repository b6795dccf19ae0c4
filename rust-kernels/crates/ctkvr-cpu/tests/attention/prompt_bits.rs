//! A prompt's rows have the same bits however the prompt is cut into pieces, on how many threads, and whatever else is in the step: on
//! every kernel table of this machine, in both formats of keys and values.

use crate::common::{CpuAttention, Text, options, step};
use ctkvr_core::{AttentionShape, Phase, SequenceId};
use ctkvr_kernels::{Kernels, KvFormat};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Tokens that are compared.
const TAIL: usize = 60;
/// Where the tail begins: at the start, across a block of keys, across the first position in bf16, across edges of spans, and far from all.
const STARTS: [usize; 6] = [0, 100, 490, 2020, 4070, 4200];
const MAX_THREADS: usize = 4;

/// Heads with and without values that fill tiles; what 8 bits cannot hold is left out.
const HEAD_DIMS: [usize; 3] = [64, 80, 96];

fn shape(head_dim: usize) -> AttentionShape {
    AttentionShape { num_layers: 1, num_q_heads: 3, num_kv_heads: 1, head_dim, local: None }
}

/// How the tail is read.
#[derive(Debug, Clone)]
struct Cut {
    start: usize,
    pieces: Vec<usize>,
    threads: usize,
    /// What else each step holds.
    beside: Beside,
}

#[derive(Debug, Clone, Copy)]
enum Beside {
    Nothing,
    Decode,
    Pieces(usize),
}

fn cuts() -> impl Strategy<Value = Cut> {
    // Mostly pieces as small as those that ride with decodes.
    let piece = prop_oneof![3 => 1usize..=9, 1 => 10..=TAIL];
    let beside = prop_oneof![Just(Beside::Nothing), Just(Beside::Decode), (1usize..=20).prop_map(Beside::Pieces)];
    (prop::sample::select(&STARTS), prop::collection::vec(piece, TAIL), 1..=MAX_THREADS, beside).prop_map(
        |(start, mut pieces, threads, beside)| {
            let mut left = TAIL;
            pieces.iter_mut().for_each(|n| {
                *n = left.min(*n);
                left -= *n;
            });
            pieces.retain(|n| *n > 0);
            Cut { start, pieces, threads, beside }
        },
    )
}

/// The first tokens of a text, stored: forks go on from there.
struct Read<'a> {
    attention: &'a CpuAttention,
    text: &'a Text,
    other_text: &'a Text,
    /// One for each of `STARTS`.
    starts: Vec<SequenceId>,
    other: SequenceId,
}

impl<'a> Read<'a> {
    fn new(attention: &'a CpuAttention, format: KvFormat, text: &'a Text, other_text: &'a Text) -> Self {
        let last = *STARTS.last().expect("some");
        let whole = attention.create_sequence(last + TAIL, format, options("full").into()).expect("created");
        let mut at = 0;
        let starts = STARTS.map(|start| {
            if start > at {
                step(attention, 2, &[(whole, text, at..start, Phase::Prefill)], false).expect("read");
                at = start;
            }
            attention.fork_sequence(whole).expect("forked")
        });
        attention.close_sequence(whole);
        let other = attention.fork_sequence(starts[1]).expect("forked");
        Self { attention, text, other_text, starts: starts.to_vec(), other }
    }

    /// Bits of the tail's rows.
    fn tail(&self, cut: &Cut) -> Vec<u32> {
        let index = STARTS.iter().position(|start| *start == cut.start).expect("one of them");
        let id = self.attention.fork_sequence(self.starts[index]).expect("forked");
        let other = self.attention.fork_sequence(self.other).expect("forked");
        let (mut at, mut other_at) = (cut.start, STARTS[1]);
        let mut bits = Vec::new();
        for n in &cut.pieces {
            let mut rows = vec![(id, self.text, at..at + n, Phase::Prefill)];
            let beside = match cut.beside {
                Beside::Nothing => None,
                Beside::Decode => Some((1, Phase::Decode)),
                Beside::Pieces(n) => Some((n, Phase::Prefill)),
            };
            if let Some((n, phase)) = beside {
                rows.insert(0, (other, self.other_text, other_at..other_at + n, phase));
                other_at += n;
            }
            let (out, _) = step(self.attention, cut.threads, &rows, false).expect("a step");
            let row_len = self.attention.shape().num_q_heads * self.attention.shape().head_dim;
            bits.extend(out[0][out[0].len() - n * row_len..].iter().map(|x| x.to_bits()));
            at += n;
        }
        self.attention.close_sequence(id);
        self.attention.close_sequence(other);
        bits
    }
}

#[test]
fn a_prompts_rows_are_the_same_to_the_last_bit_however_it_is_cut() {
    for head_dim in HEAD_DIMS {
        let text = Text::new(shape(head_dim), 1, STARTS[5] + TAIL);
        let other = Text::new(shape(head_dim), 2, STARTS[1] + TAIL * 20);
        for kernels in Kernels::available().into_iter().filter(|kernels| head_dim.is_multiple_of(kernels.lanes)) {
            let attention = CpuAttention::with_isa(shape(head_dim), MAX_THREADS, kernels.name).expect("kernels fit");
            for format in [KvFormat::F16, KvFormat::Q8] {
                if format.check(head_dim).is_err() {
                    continue;
                }
                let read = Read::new(&attention, format, &text, &other);
                let whole = STARTS.map(|start| read.tail(&Cut { start, pieces: vec![TAIL], threads: 1, beside: Beside::Nothing }));
                // A failure prints the smallest cut that shows it.
                let run =
                    TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() }).run(&cuts(), |cut| {
                        let index = STARTS.iter().position(|start| *start == cut.start).expect("one of them");
                        prop_assert!(read.tail(&cut) == whole[index]);
                        Ok(())
                    });
                run.unwrap_or_else(|failure| panic!("{} head_dim {head_dim} {format:?}: {failure}", kernels.name));
            }
        }
    }
}
