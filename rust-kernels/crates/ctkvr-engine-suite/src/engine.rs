//! Steps over several sequences: batching, chunks, cancelling, errors; on small models of our own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ctkvr_baselines::testing::Settings;
use ctkvr_core::attention::read_map::PASSAGE;
use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::retriever::HeadState;
use ctkvr_core::sequence::lifecycle::{HeadMaker, HeadTask};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{AttentionShape, Phase, SequenceId};
use ctkvr_engine::{
    Batch, BatchOutput, Capabilities, Engine, EngineOptions, Error, Executor, Measures, Result, StepEntry, StepOutput,
};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, SamplerOptions};

use crate::Suite;
use crate::helpers::{NO_CANCEL, alone, full_sequence, kl_divergence, load, logits, most_probable};
use crate::tiny_model::{TemporaryFile, TinyModel, VOCAB_SIZE};

fn tiny() -> (TemporaryFile, Arc<Model>) {
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    (file, model)
}

fn tokens(seed: usize, len: usize) -> Vec<i32> {
    (0..len).map(|i| ((seed * 131 + i * 7919 + i * i * 31) % VOCAB_SIZE) as i32).collect()
}

fn entry(sequence: SequenceId, tokens: &[i32], output: StepOutput) -> StepEntry<'_> {
    StepEntry { sequence, tokens, phase: Phase::Prefill, output }
}

fn sample(engine: &Engine, sequence: SequenceId, tokens: &[i32]) -> i32 {
    let result = engine.step(&[entry(sequence, tokens, StepOutput::Sample)], Measures::NONE, &NO_CANCEL).unwrap();
    result.sequences[0].token_id.unwrap()
}

/// Distributions of one computation done in two ways: rounding only.
fn assert_same(expected: &[f32], actual: &[f32], what: &str) {
    let divergence = kl_divergence(expected, actual);
    assert!(divergence < 1e-6, "{what}: KL {divergence}");
}

pub fn a_step_over_several_sequences_equals_a_step_for_each(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let prompts = [tokens(1, 100), tokens(2, 1), tokens(3, 37)];
    let alone: Vec<Vec<f32>> = prompts.iter().map(|prompt| logits(&engine, full_sequence(&engine, 256), prompt)).collect();
    let sequences = prompts.each_ref().map(|_| full_sequence(&engine, 256));
    let plan: Vec<StepEntry> =
        sequences.iter().zip(&prompts).map(|(id, prompt)| entry(*id, prompt, StepOutput::SampleAndLogits)).collect();
    let together = engine.step(&plan, Measures::NONE, &NO_CANCEL).unwrap();
    for (index, result) in together.sequences.iter().enumerate() {
        assert_same(&alone[index], result.logits.as_ref().unwrap(), "together");
        assert_eq!(result.token_id, Some(most_probable(result.logits.as_ref().unwrap())));
        assert_eq!(engine.len(sequences[index]).unwrap(), prompts[index].len());
    }
    assert!(together.timings.total_ms > 0.0 && together.timings.linear_ms > 0.0, "{:?}", together.timings);
}

pub fn chunks_of_any_size_and_single_decodes_give_the_same_distributions(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let prompt = tokens(4, 130);
    let reference = suite.engine(&model, 1, 512);
    let expected = logits(&reference, full_sequence(&reference, 256), &prompt);
    for chunk in [1, 7, 64, 129, 130] {
        let engine = suite.engine(&model, 1, chunk);
        assert_same(&expected, &logits(&engine, full_sequence(&engine, 256), &prompt), &format!("chunks of {chunk}"));
    }
    let one_by_one = full_sequence(&reference, 256);
    logits(&reference, one_by_one, &prompt[..100]);
    let last = prompt[100..].iter().map(|token| logits(&reference, one_by_one, &[*token])).last().unwrap();
    assert_same(&expected, &last, "one by one");
}

pub fn any_number_of_threads_gives_the_same_distributions(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let run = |threads| {
        let engine = suite.engine(&model, threads, 64);
        let sequence = full_sequence(&engine, 256);
        [logits(&engine, sequence, &tokens(20, 100)), logits(&engine, sequence, &[7])].concat()
    };
    let one = run(1);
    for threads in [2, 3] {
        assert_same(&one, &run(threads), &format!("{threads} threads"));
    }
}

pub fn decode_and_prefill_phases_of_one_token_agree_under_the_full_selector(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let [prefilled, decoded] = [Phase::Prefill, Phase::Decode].map(|phase| {
        let sequence = full_sequence(&engine, 256);
        logits(&engine, sequence, &tokens(5, 90));
        let plan = [StepEntry { sequence, tokens: &[9], phase, output: StepOutput::Logits }];
        engine.step(&plan, Measures::NONE, &NO_CANCEL).unwrap().sequences.remove(0).logits.unwrap()
    });
    assert_same(&prefilled, &decoded, "phases");
}

pub fn decode_reports_what_it_read(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 2, 64);
    let selector = Settings { method: "streaming", num_sink_tokens: 4, recent_window: 16, ..Settings::full() };
    let sequence = engine.create_sequence(256, KvFormat::F16, selector.into()).unwrap();
    logits(&engine, sequence, &tokens(5, 100));
    engine.build_index(sequence, Duration::MAX, &NO_CANCEL).unwrap();
    assert_eq!(engine.indexed_range(sequence).unwrap(), (4, 84));
    let plan = [StepEntry { sequence, tokens: &[9], phase: Phase::Decode, output: StepOutput::None }];
    let result = engine.step(&plan, Measures { audit: true, read_map: true }, &NO_CANCEL).unwrap();
    let counters = result.sequences[0].counters.unwrap();
    let AttentionShape { num_layers, num_kv_heads, .. } = model.spec().attention_shape();
    assert_eq!(counters.heads as usize, num_layers * num_kv_heads);
    // Sinks, the window as of the build, and the new token.
    assert_eq!(counters.keys_read, counters.heads * (4 + 16 + 1));
    assert_eq!(counters.keys_total, counters.heads * 101);
    assert_eq!(counters.audited_heads, counters.heads);
    assert!(counters.measured_mass > 0.0);
    assert!(result.sequences[0].token_id.is_none() && result.sequences[0].logits.is_none());
}

pub fn a_read_map_adds_up_to_the_mass_that_was_read(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let AttentionShape { num_layers, num_q_heads, .. } = model.spec().attention_shape();
    let selectors = [
        Settings::full(),
        Settings { method: "streaming", num_sink_tokens: 4, recent_window: 16, ..Settings::full() },
        Settings { method: "exactTopK", num_sink_tokens: 4, recent_window: 16, max_selected: 20, ..Settings::full() },
    ];
    let mut of_threads: Vec<Vec<Vec<f32>>> = Vec::new();
    for threads in [1, 3] {
        let engine = suite.engine(&model, threads, 64);
        of_threads.push(Vec::new());
        for selector in &selectors {
            let sequence = engine.create_sequence(256, KvFormat::F16, selector.clone().into()).unwrap();
            logits(&engine, sequence, &tokens(5, 100));
            engine.build_index(sequence, Duration::MAX, &NO_CANCEL).unwrap();
            let step = |token: i32, read_map| {
                let plan = [StepEntry { sequence, tokens: &[token], phase: Phase::Decode, output: StepOutput::None }];
                engine.step(&plan, Measures { read_map, ..Measures::NONE }, &NO_CANCEL).unwrap().sequences.remove(0)
            };
            assert_eq!(step(9, false).read_map, None);
            let result = step(8, true);
            let (map, counters) = (result.read_map.unwrap(), result.counters.unwrap());
            assert_eq!(map.len(), 102usize.div_ceil(PASSAGE));
            let mass = counters.estimated_mass / (num_layers * num_q_heads) as f64;
            let sum: f64 = map.iter().copied().map(f64::from).sum();
            // A weight is good to 1e-6 of itself (a short dot product and two exponentials).
            assert!((sum - mass).abs() < 1e-5, "{}: {sum}, not {mass}", selector.method);
            of_threads.last_mut().unwrap().push(map);
        }
    }
    assert!(of_threads[0] == of_threads[1], "threads");
}

pub fn a_cancelled_step_leaves_every_sequence_as_it_was(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 32);
    let [first, second, control] = [(); 3].map(|()| full_sequence(&engine, 512));
    for sequence in [first, control] {
        logits(&engine, sequence, &tokens(6, 50));
    }
    engine.set_sampler(first, SamplerOptions { temperature: 2.0, seed: 5, ..SamplerOptions::greedy() }).unwrap();
    engine.set_sampler(control, SamplerOptions { temperature: 2.0, seed: 5, ..SamplerOptions::greedy() }).unwrap();
    let (short, long) = (tokens(7, 10), tokens(8, 300));
    let plan = [entry(first, &short, StepOutput::Sample), entry(second, &long, StepOutput::Sample)];
    let cancel = AtomicBool::new(true);
    assert!(matches!(engine.step(&plan, Measures::NONE, &cancel), Err(Error::Cancelled)));

    // In the middle: whatever was done by then is undone. A step that was faster than the cancel is undone by hand.
    for delay_us in [200, 1000, 3000] {
        let cancel = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_micros(delay_us));
                cancel.store(true, Ordering::Relaxed);
            });
            engine.step(&[entry(second, &long, StepOutput::None)], Measures::NONE, &cancel)
        });
        match outcome {
            Err(error) => assert!(matches!(error, Error::Cancelled), "{error}"),
            Ok(_) => engine.truncate(second, 0).unwrap(),
        }
        assert_eq!(engine.len(second).unwrap(), 0);
    }
    assert_eq!(engine.len(first).unwrap(), 50);
    // Neither keys nor the sampler's random state moved.
    for step in 0..5 {
        assert_eq!(sample(&engine, first, &[step]), sample(&engine, control, &[step]));
    }
}

/// Fails at some of the calls that it passes on.
struct Fails {
    inner: Box<dyn Executor>,
    num_calls: usize,
    fails_at: fn(usize) -> bool,
}

impl HeadMaker for Fails {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> ctkvr_core::Result<Vec<HeadState>> {
        self.inner.make_heads(sequence, tasks, deadline, cancel)
    }
}

impl Executor for Fails {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }

    fn kv_pool(&self) -> Arc<dyn KvPool> {
        self.inner.kv_pool()
    }

    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        self.num_calls += 1;
        self.inner.forward(batch, output, cancel)?;
        if (self.fails_at)(self.num_calls) { Err(Error::Internal { what: "asked to".into() }) } else { Ok(()) }
    }
}

pub fn an_executor_that_fails_leaves_every_sequence_as_it_was(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    // The second of two chunks; then what is fed again.
    let failing = Fails { inner: (suite.make)(&model, 1), num_calls: 0, fails_at: |call| call == 4 };
    let engine = Engine::new(Arc::clone(&model), Box::new(failing), EngineOptions { prefill_chunk: 64 }).unwrap();
    let [sequence, control] = [(); 2].map(|()| full_sequence(&engine, 256));
    for sequence in [sequence, control] {
        logits(&engine, sequence, &tokens(6, 50));
    }
    let prompt = tokens(7, 100);
    let outcome = engine.step(&[entry(sequence, &prompt, StepOutput::Sample)], Measures::NONE, &NO_CANCEL);
    assert!(matches!(outcome, Err(Error::Internal { .. })), "{outcome:?}");
    assert_eq!(engine.len(sequence).unwrap(), 50);
    assert_eq!(engine.memory(sequence).unwrap().kv_bytes, engine.memory(control).unwrap().kv_bytes);
    assert_eq!(logits(&engine, sequence, &tokens(8, 70)), logits(&engine, control, &tokens(8, 70)));
}

pub fn plans_that_cannot_run_are_refused_before_any_work(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let sequence = full_sequence(&engine, 100);
    logits(&engine, sequence, &tokens(9, 90));
    let refused = |plan: &[StepEntry]| engine.step(plan, Measures::NONE, &NO_CANCEL).unwrap_err();
    match refused(&[entry(sequence, &tokens(1, 11), StepOutput::Sample)]) {
        Error::ContextExceeded { max_tokens: 100, length: 90, added: 11 } => {}
        other => panic!("{other:?}"),
    }
    let vocab = VOCAB_SIZE as i32;
    let bad_plans: [(&str, Vec<StepEntry>); 6] = [
        ("empty", vec![]),
        ("no tokens", vec![entry(sequence, &[], StepOutput::None)]),
        ("negative token", vec![entry(sequence, &[-1], StepOutput::None)]),
        ("token beyond the vocabulary", vec![entry(sequence, std::slice::from_ref(&vocab), StepOutput::None)]),
        ("twice", vec![entry(sequence, &[1], StepOutput::None), entry(sequence, &[2], StepOutput::None)]),
        ("long decode", vec![StepEntry { sequence, tokens: &[1, 2], phase: Phase::Decode, output: StepOutput::None }]),
    ];
    for (name, plan) in bad_plans {
        let error = refused(&plan);
        assert_eq!(error.code(), "CTKVR_INVALID_OPTION", "{name}: {error}");
    }
    let unknown = SequenceId(999);
    assert_eq!(refused(&[entry(unknown, &[1], StepOutput::None)]).code(), "CTKVR_CLOSED");
    assert_eq!(engine.len(sequence).unwrap(), 90);
    sample(&engine, sequence, &tokens(1, 10));
    assert_eq!(engine.len(sequence).unwrap(), 100);
    assert!(suite.engine(&model, 1, 64).create_sequence(0, KvFormat::F16, Settings::full().into()).is_err());
}

pub fn truncating_equals_never_having_appended(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let [kept, cut] = [(); 2].map(|()| full_sequence(&engine, 256));
    for sequence in [kept, cut] {
        logits(&engine, sequence, &tokens(10, 80));
    }
    logits(&engine, cut, &tokens(11, 40));
    engine.truncate(cut, 80).unwrap();
    assert_eq!(engine.len(cut).unwrap(), 80);
    assert_eq!(logits(&engine, kept, &[3]), logits(&engine, cut, &[3]));
    assert_eq!(engine.truncate(cut, 82).unwrap_err().code(), "CTKVR_INVALID_OPTION");
}

pub fn a_fork_goes_its_own_way(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let origin = full_sequence(&engine, 256);
    logits(&engine, origin, &tokens(12, 70));
    let fork = engine.fork_sequence(origin).unwrap();
    let control = full_sequence(&engine, 256);
    logits(&engine, control, &tokens(12, 70));
    logits(&engine, fork, &tokens(13, 20));
    assert_eq!(logits(&engine, origin, &[5]), logits(&engine, control, &[5]));
    engine.close_sequence(origin);
    assert_eq!(engine.len(fork).unwrap(), 90);
    assert!(!logits(&engine, fork, &[5]).is_empty());
    // A sequence that has not run yet can be forked too.
    let empty = engine.fork_sequence(full_sequence(&engine, 8)).unwrap();
    assert_eq!(engine.len(empty).unwrap(), 0);
}

pub fn keys_and_values_in_8_bits_say_nearly_the_same_in_less_memory(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 2, 64);
    let [f16, q8] = [KvFormat::F16, KvFormat::Q8].map(|f| engine.create_sequence(256, f, Settings::full().into()).unwrap());
    let [expected, actual] = [f16, q8].map(|sequence| logits(&engine, sequence, &tokens(14, 100)));
    // No more is known of a model of random weights than that a step of 1/254 of a block's largest value does little.
    let divergence = kl_divergence(&expected, &actual);
    assert!(divergence > 0.0 && divergence < 1e-3, "KL {divergence}");
    let [wide, narrow] = [f16, q8].map(|sequence| engine.memory(sequence).unwrap().kv_bytes);
    assert_eq!(narrow * 16, wide * 9);
    let fork = engine.fork_sequence(q8).unwrap();
    logits(&engine, fork, &tokens(15, 20));
    assert_eq!(engine.memory(fork).unwrap().kv_bytes, narrow);
    engine.truncate(fork, 100).unwrap();
    assert_eq!(logits(&engine, fork, &[5]), logits(&engine, q8, &[5]));
}

pub fn while_a_step_runs_others_are_refused_and_sequences_can_come_and_go(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 2, 512);
    let sequence = full_sequence(&engine, 1 << 16);
    let cancel = AtomicBool::new(false);
    let long = tokens(1, 40_000);
    std::thread::scope(|scope| {
        // The polling below takes the engine for moments too: a step that meets it there tries again.
        let step = scope.spawn(|| {
            loop {
                match engine.step(&[entry(sequence, &long, StepOutput::None)], Measures::NONE, &cancel) {
                    Err(Error::Busy { .. }) => std::thread::yield_now(),
                    outcome => break outcome,
                }
            }
        });
        // Wait until the step holds the engine.
        while !matches!(engine.truncate(sequence, 0), Err(Error::Busy { .. })) {
            std::thread::yield_now();
        }
        let other = full_sequence(&engine, 10);
        assert_eq!(engine.len(other).unwrap(), 0);
        let busy = engine.step(&[entry(other, &[1], StepOutput::None)], Measures::NONE, &NO_CANCEL);
        assert_eq!(busy.unwrap_err().code(), "CTKVR_BUSY");
        engine.close_sequence(other);
        engine.close_sequence(sequence);
        assert_eq!(engine.len(sequence).unwrap_err().code(), "CTKVR_CLOSED");
        cancel.store(true, Ordering::Relaxed);
        assert!(matches!(step.join().unwrap(), Err(Error::Cancelled)));
    });
    // The engine is free again.
    sample(&engine, full_sequence(&engine, 10), &[1, 2]);
}

pub fn a_seed_replays_a_generation(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let generate = |seed| {
        let sequence = full_sequence(&engine, 256);
        engine.set_sampler(sequence, SamplerOptions { temperature: 3.0, top_k: 40, seed, ..SamplerOptions::greedy() }).unwrap();
        let mut token = sample(&engine, sequence, &tokens(14, 30));
        let mut all = vec![token];
        for _ in 0..20 {
            token = sample(&engine, sequence, &[token]);
            all.push(token);
        }
        all
    };
    assert_eq!(generate(1), generate(1));
    assert_ne!(generate(1), generate(2));
}

/// Whether logits come with it, whether others draw beside it, and whatever chunk the row is in.
pub fn a_greedy_sample_is_the_most_probable_token(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 32);
    for (seed, count) in [(21, 1), (22, 20), (23, 70)] {
        let [greedy, told, beside] = [(); 3].map(|()| full_sequence(&engine, 256));
        engine.set_sampler(beside, SamplerOptions { temperature: 1.0, ..SamplerOptions::greedy() }).unwrap();
        let prompt = tokens(seed, count);
        let expected = most_probable(&logits(&engine, told, &prompt));
        let phase = if count == 1 { Phase::Decode } else { Phase::Prefill };
        let entry = |sequence| StepEntry { sequence, tokens: &prompt, phase, output: StepOutput::Sample };
        let fork = engine.fork_sequence(greedy).unwrap();
        let alone = engine.step(&[entry(greedy)], Measures::NONE, &NO_CANCEL).unwrap();
        let both = engine.step(&[entry(fork), entry(beside)], Measures::NONE, &NO_CANCEL).unwrap();
        assert_eq!([alone.sequences[0].token_id, both.sequences[0].token_id], [Some(expected); 2], "{count} tokens");
        assert!(alone.sequences[0].logits.is_none() && both.sequences[1].token_id.is_some());
        [greedy, told, beside, fork].into_iter().for_each(|sequence| engine.close_sequence(sequence));
    }
}

pub fn an_engine_is_refused_an_executor_of_another_model(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let other = TinyModel { num_kv_heads: 4, ..TinyModel::new("llama") }.write();
    let executor = (suite.make)(&load(other.path()), 1);
    let error = Engine::new(Arc::clone(&model), executor, EngineOptions::default()).err().unwrap();
    assert_eq!(error.code(), "CTKVR_INVALID_OPTION");
    let too_many = EngineOptions { prefill_chunk: usize::MAX };
    let error = Engine::new(Arc::clone(&model), (suite.make)(&model, 1), too_many).err().unwrap();
    assert_eq!(error.code(), "CTKVR_INVALID_OPTION");
}
