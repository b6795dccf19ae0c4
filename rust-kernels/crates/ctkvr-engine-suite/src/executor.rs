//! The contract of an executor, without an engine: what a batch may change, and what happens inside it when it is stopped. Retrievers of
//! our own look at how far it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::retriever::{Candidates, HeadQuery, HeadRetriever, HeadState, Proposal, Scratch};
use ctkvr_core::sequence::store::{Sequence, SequenceIndex};
use ctkvr_core::{Phase, SelectorOptions};
use ctkvr_engine::{Batch, BatchOutput, Error, Executor, NewRows, Result};
use ctkvr_kernels::KvFormat;
use ctkvr_model::Model;

use crate::Suite;
use crate::helpers::{NO_CANCEL, alone, load};
use crate::tiny_model::{NUM_LAYERS, TinyModel};

const PROMPT: [i32; 6] = [5, 6, 7, 8, 9, 10];

fn sequence(model: &Model, executor: &dyn Executor) -> Sequence {
    let kv = BlockTable::new(executor.kv_pool(), KvFormat::F16);
    let selector = Settings { num_sink_tokens: 1, recent_window: 1, ..Settings::full() }.into();
    Sequence::new(model.spec().attention_shape(), kv, 64, selector)
}

/// Appends tokens, and keeps them if that succeeds. Returns the last one's logits.
fn forward(executor: &mut dyn Executor, sequence: &mut Sequence, tokens: &[i32], cancel: &AtomicBool) -> Result<Vec<f32>> {
    let positions: Vec<i32> = (sequence.len..sequence.len + tokens.len()).map(|position| position as i32).collect();
    let phase = if tokens.len() == 1 { Phase::Decode } else { Phase::Prefill };
    let output_rows = [tokens.len() - 1];
    let rows = vec![NewRows { sequence, phase, num_rows: tokens.len() }];
    let mut batch = Batch::open(tokens, &positions, &output_rows, rows)?;
    let mut output = BatchOutput::default();
    executor.forward(&mut batch, &mut output, cancel)?;
    batch.keep();
    assert_eq!(output.sequences.len(), 1);
    assert_eq!(output.sequences[0].counters.is_some(), phase == Phase::Decode);
    Ok(output.logits[..executor.capabilities().vocab_size].to_vec())
}

/// Reads everything, and calls `on_search` whenever it is asked.
struct Watched {
    layer: usize,
    on_search: Arc<dyn Fn(usize) + Send + Sync>,
}

impl HeadRetriever for Watched {
    fn search(&self, _query: &HeadQuery, _scratch: &mut Scratch, out: &mut Proposal) {
        out.candidates = Candidates::All;
        (self.on_search)(self.layer);
    }
    fn encode(&self, _out: &mut Vec<u8>) {}
    fn bytes(&self) -> usize {
        0
    }
}

/// From now on every head calls `on_search` with its layer.
fn watch(sequence: &mut Sequence, on_search: impl Fn(usize) + Send + Sync + 'static) {
    let on_search: Arc<dyn Fn(usize) + Send + Sync> = Arc::new(on_search);
    let per_layer = sequence.shape.num_indexed_heads() / NUM_LAYERS;
    let SelectorOptions { method, .. } = Settings { method: "exactTopK", ..Settings::full() }.into();
    sequence.selector.method = method;
    let (len, end) = (sequence.len, sequence.len - 1);
    let head = |i: usize| HeadState {
        head: Arc::new(Watched { layer: i / per_layer, on_search: Arc::clone(&on_search) }),
        end,
        made_at: len,
        grown_at: len,
    };
    let heads = (0..sequence.shape.num_indexed_heads()).map(head).collect();
    sequence.index = Some(SequenceIndex { start: 1, heads, options: sequence.selector.clone(), built_at: vec![len] });
}

pub fn cancelling_stops_between_layers(suite: &Suite) {
    let _alone = alone();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let mut executor = (suite.make)(&model, 2);
    let mut sequence = sequence(&model, &*executor);
    forward(&mut *executor, &mut sequence, &PROMPT, &NO_CANCEL).unwrap();
    let cancel = Arc::new(AtomicBool::new(false));
    let deepest = Arc::new(AtomicUsize::new(0));
    let (flag, layer_seen) = (Arc::clone(&cancel), Arc::clone(&deepest));
    watch(&mut sequence, move |layer| {
        flag.store(true, Ordering::SeqCst);
        layer_seen.fetch_max(layer + 1, Ordering::SeqCst);
    });
    let outcome = forward(&mut *executor, &mut sequence, &[1], &cancel);
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(deepest.load(Ordering::SeqCst), 1);
    assert_eq!(sequence.len, PROMPT.len());
    // Nothing of it is left.
    let (again, mut control) =
        (forward(&mut *executor, &mut sequence, &[1], &NO_CANCEL).unwrap(), self::sequence(&model, &*executor));
    forward(&mut *executor, &mut control, &PROMPT, &NO_CANCEL).unwrap();
    watch(&mut control, |_| ());
    assert_eq!(again, forward(&mut *executor, &mut control, &[1], &NO_CANCEL).unwrap());
}

pub fn a_panic_in_the_attention_fails_the_step_and_nothing_else(suite: &Suite) {
    let _alone = alone();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let mut executor = (suite.make)(&model, 2);
    let [mut bad, mut good] = [(); 2].map(|()| sequence(&model, &*executor));
    for sequence in [&mut bad, &mut good] {
        forward(&mut *executor, sequence, &PROMPT, &NO_CANCEL).unwrap();
    }
    watch(&mut bad, |layer| assert!(layer + 1 < NUM_LAYERS, "asked to"));
    for _ in 0..2 {
        let outcome = forward(&mut *executor, &mut bad, &[1], &NO_CANCEL);
        assert!(matches!(outcome, Err(Error::Internal { .. })), "{outcome:?}");
        assert_eq!(bad.len, PROMPT.len());
    }
    bad.index = None;
    let expected = forward(&mut *executor, &mut good, &[1], &NO_CANCEL).unwrap();
    assert_eq!(forward(&mut *executor, &mut bad, &[1], &NO_CANCEL).unwrap(), expected);
}

pub fn a_batch_changes_nothing_but_what_it_appends(suite: &Suite) {
    let _alone = alone();
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    let mut executor = (suite.make)(&model, 1);
    let mut sequence = sequence(&model, &*executor);
    forward(&mut *executor, &mut sequence, &PROMPT, &NO_CANCEL).unwrap();
    let (tokens, positions) = ([1, 2, 3], [6, 7, 8]);
    let memory = sequence.memory();
    {
        let rows = vec![NewRows { sequence: &mut sequence, phase: Phase::Prefill, num_rows: 3 }];
        let mut batch = Batch::open(&tokens, &positions, &[], rows).unwrap();
        executor.forward(&mut batch, &mut BatchOutput::default(), &NO_CANCEL).unwrap();
        assert_eq!(batch.sequences[0].sequence.len, PROMPT.len(), "the rows are the engine's to keep");
    }
    assert_eq!((sequence.len, sequence.memory()), (PROMPT.len(), memory), "what is not kept is given up");
    let mut control = self::sequence(&model, &*executor);
    forward(&mut *executor, &mut control, &PROMPT, &NO_CANCEL).unwrap();
    let next = |executor: &mut dyn Executor, of: &mut Sequence| forward(executor, of, &[4, 5], &NO_CANCEL).unwrap();
    assert_eq!(next(&mut *executor, &mut sequence), next(&mut *executor, &mut control));
}
