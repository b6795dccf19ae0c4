//! Sequences saved and restored: what follows is, to the bit, what follows without. Files that are damaged, made up, or of something else
//! are refused.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ctkvr_baselines::NAMES;
use ctkvr_baselines::testing::Settings;
use ctkvr_core::sequence::snapshot::sections::{SnapshotReader, SnapshotWriter};
use ctkvr_core::{Phase, SequenceId};
use ctkvr_engine::{Engine, Error, Measures, RestoredSequence, Result, StepEntry, StepOutput};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{Model, SamplerOptions};

use crate::Suite;
use crate::helpers::{NO_CANCEL, alone, full_sequence, load, logits, most_probable};
use crate::tiny_model::{Random, TemporaryFile, TinyModel, VOCAB_SIZE};

/// Tokens of the prompt, of which some are indexed.
const PROMPT: usize = 600;

fn tiny() -> (TemporaryFile, Arc<Model>) {
    let file = TinyModel::new("llama").write();
    let model = load(file.path());
    (file, model)
}

fn prompt(len: usize) -> Vec<i32> {
    let mut random = Random(17);
    (0..len).map(|_| (random.number() as usize % VOCAB_SIZE) as i32).collect()
}

/// Small enough that all of it happens: heads grow, and some of CTkvr's are retrieval heads or are repaired.
fn settings(method: &'static str) -> Settings {
    Settings {
        method,
        num_sink_tokens: 4,
        recent_window: 32,
        num_centroids: 48,
        append_size: 16,
        list_len: 40,
        max_selected: 24,
        num_probes: 2,
        // So many clusters that those of the first build are in 8 bits.
        cluster_size: 3,
        cluster_format: KvFormat::Q8,
        cluster_probes: 2,
        retrieval_head_share: 0.25,
        retrieval_cluster_share: 0.4,
        repair_share: 0.25,
        hash_bits: 4,
        hash_tables: 20,
        dense_layers: false,
        dense_below: 64,
        ..Settings::full()
    }
}

fn all_methods() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(["ctkvr"])
}

/// What was decoded: each token, and the logits that it was chosen by.
#[derive(Debug, PartialEq, Default)]
struct Decoded {
    tokens: Vec<i32>,
    logits: Vec<Vec<f32>>,
    repairs: u64,
}

/// Decodes `count` tokens from `first` on, each the most probable one.
fn decode(engine: &Engine, sequence: SequenceId, first: i32, count: usize) -> Decoded {
    let mut decoded = Decoded { tokens: vec![first], ..Decoded::default() };
    for i in 0..count {
        let tokens = [decoded.tokens[i]];
        let entry = StepEntry { sequence, tokens: &tokens, phase: Phase::Decode, output: StepOutput::Logits };
        let result = engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap().sequences.remove(0);
        let logits = result.logits.unwrap();
        decoded.repairs += result.counters.unwrap().dense_repairs;
        decoded.tokens.push(most_probable(&logits));
        decoded.logits.push(logits);
    }
    decoded
}

fn prefill(engine: &Engine, sequence: SequenceId, tokens: &[i32]) {
    let entry = StepEntry { sequence, tokens, phase: Phase::Prefill, output: StepOutput::None };
    engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap();
}

fn build(engine: &Engine, sequence: SequenceId) {
    engine.build_index(sequence, Duration::MAX, &NO_CANCEL).unwrap();
}

/// The settings' description is the method's name.
fn save(engine: &Engine, sequence: SequenceId, method: &str) -> TemporaryFile {
    let file = TemporaryFile::new("sequence");
    let bytes = engine.save_sequence(sequence, file.path(), method.as_bytes()).unwrap();
    assert_eq!(bytes, std::fs::metadata(file.path()).unwrap().len());
    file
}

fn restore(engine: &Engine, path: &Path) -> Result<RestoredSequence> {
    let selector = |name: &[u8]| {
        let method = all_methods().find(|method| method.as_bytes() == name).unwrap_or("full");
        Ok(settings(method).into())
    };
    engine.restore_sequence(path, &selector, &NO_CANCEL)
}

/// Where heads' states were made last.
fn made_at(engine: &Engine, sequence: SequenceId) -> usize {
    let last = |sequence: &ctkvr_core::sequence::store::Sequence| {
        sequence.index.as_ref().map_or(0, |index| index.heads.iter().map(|head| head.made_at).max().unwrap_or(0))
    };
    engine.with_sequence(sequence, last).unwrap()
}

pub fn a_restored_sequence_goes_on_with_the_same_bits(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    assert!(check_restored(suite, &model) > 0, "no head was repaired behind a snapshot");
}

/// The same of a model of which some layers have no index; not every executor runs it.
pub fn also_where_layers_have_windows(suite: &Suite) {
    let _alone = alone();
    let file = TinyModel { num_layers: 4, ..TinyModel::new("gemma3") }.write();
    let model = load(file.path());
    let engine = suite.engine(&model, 1, 64);
    let sequence = engine.create_sequence(4000, KvFormat::F16, settings("ctkvr").into()).unwrap();
    prefill(&engine, sequence, &prompt(PROMPT));
    build(&engine, sequence);
    let num_indexed = engine.with_sequence(sequence, |sequence| sequence.index.as_ref().unwrap().heads.len()).unwrap();
    assert_eq!(num_indexed, 2 * 2, "KV heads of the second and the fourth layer");
    let tokens = [7];
    let entry = StepEntry { sequence, tokens: &tokens, phase: Phase::Decode, output: StepOutput::Logits };
    let counters = engine.step(&[entry], Measures::NONE, &NO_CANCEL).unwrap().sequences.remove(0).counters.unwrap();
    assert_eq!((counters.heads, counters.keys_total), (4, 4 * (PROMPT as u64 + 1)), "local layers are not counted");
    check_restored(suite, &model);
}

/// Returns how many heads were repaired behind a snapshot.
fn check_restored(suite: &Suite, model: &Arc<Model>) -> u64 {
    let engine = suite.engine(model, 2, 128);
    let other = suite.engine(model, 1, 64);
    let mut repairs = 0;
    for format in [KvFormat::F16, KvFormat::Q8] {
        let base = engine.create_sequence(4000, format, settings("full").into()).unwrap();
        // Queries of one token over and over: those of others are outliers beside them, which steps then repair.
        prefill(&engine, base, &prompt(PROMPT - 60));
        prefill(&engine, base, &[9; 60]);
        for method in all_methods() {
            let what = format!("{method}, {format:?}");
            let sequence = engine.fork_sequence(base).unwrap();
            engine.set_selector(sequence, settings(method).into()).unwrap();
            build(&engine, sequence);
            let before = decode(&engine, sequence, 7, 20);
            let next = before.tokens[20];
            if method == "ctkvr" {
                assert!(made_at(&engine, sequence) > PROMPT + 10, "{what}: nothing has grown");
            }
            let file = save(&engine, sequence, method);
            let restored = restore(&other, file.path()).unwrap();
            assert!(restored.same_arithmetic && !restored.saved_arithmetic.is_empty(), "{what}");
            let copy = restored.sequence;
            let figures = |engine: &Engine, id| {
                let (memory, indexed) = (engine.memory(id).unwrap(), engine.indexed_range(id).unwrap());
                (memory, indexed, engine.num_recent_queries(id).unwrap(), engine.len(id).unwrap(), engine.max_tokens(id).unwrap())
            };
            assert_eq!(figures(&engine, sequence), figures(&other, copy), "{what}");
            // Saved again, it is the same file.
            let again = save(&other, copy, method);
            assert!(std::fs::read(file.path()).unwrap() == std::fs::read(again.path()).unwrap(), "{what}: another file");

            let fork = other.fork_sequence(copy).unwrap();
            let expected = decode(&engine, sequence, next, 64);
            assert_eq!(decode(&other, copy, next, 64), expected, "{what}");
            assert_eq!(decode(&other, fork, next, 64), expected, "{what}: a fork");
            repairs += expected.repairs;
            // Cut below where it was saved, in the prompt's last tokens, and below what was indexed.
            for len in [PROMPT + 9, PROMPT - 3, 300] {
                for (engine, id) in [(&engine, sequence), (&other, copy)] {
                    engine.truncate(id, len).unwrap();
                }
                assert_eq!(figures(&engine, sequence), figures(&other, copy), "{what}: cut to {len}");
                assert_eq!(decode(&other, copy, 5, 24), decode(&engine, sequence, 5, 24), "{what}: cut to {len}");
            }
            // The next turn's build.
            for (engine, id) in [(&engine, sequence), (&other, copy)] {
                prefill(engine, id, &prompt(90));
                build(engine, id);
            }
            assert_eq!(decode(&other, copy, 5, 24), decode(&engine, sequence, 5, 24), "{what}: the next turn");
            [copy, fork].into_iter().for_each(|id| other.close_sequence(id));
            engine.close_sequence(sequence);
        }
    }
    assert_eq!(other.kv_usage().pages, 0, "closed sequences hold no pages");
    repairs
}

pub fn a_snapshot_in_the_middle_of_a_prompt_a_build_or_before_anything(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let [engine, other] = [(); 2].map(|()| suite.engine(&model, 2, 64));
    // Nothing stored yet.
    let empty = engine.create_sequence(900, KvFormat::Q8, settings("ctkvr").into()).unwrap();
    let copy = restore(&other, save(&engine, empty, "ctkvr").path()).unwrap().sequence;
    let sequences = [(&engine, empty), (&other, copy)];
    for (engine, id) in sequences {
        assert_eq!((engine.len(id).unwrap(), engine.max_tokens(id).unwrap()), (0, 900));
        prefill(engine, id, &prompt(200));
        build(engine, id);
    }
    let same = |[(engine, id), (other, copy)]: [(&Engine, SequenceId); 2]| {
        let expected = decode(engine, id, 3, 12);
        assert_eq!(decode(other, copy, 3, 12), expected);
    };
    same(sequences);
    // In the second prompt, which has overwritten queries of the first: a cut brings those back.
    prefill(&engine, empty, &prompt(100));
    let copies = [(); 2].map(|()| restore(&other, save(&engine, empty, "ctkvr").path()).unwrap().sequence);
    let forks = [engine.fork_sequence(empty).unwrap(), empty];
    let [whole, cut] = [0, 1].map(|i| [(&engine, forks[i]), (&other, copies[i])]);
    for (engine, id) in whole {
        prefill(engine, id, &prompt(30));
        build(engine, id);
    }
    same(whole);
    for (engine, id) in cut {
        engine.truncate(id, 205).unwrap();
        prefill(engine, id, &prompt(60));
        build(engine, id);
    }
    same(cut);
    // In the middle of a build: the next one begins anew.
    prefill(&engine, empty, &prompt(80));
    engine.set_selector(empty, settings("quest").into()).unwrap();
    assert!(engine.build_index(empty, Duration::ZERO, &NO_CANCEL).unwrap().heads_left > 0);
    let copy = restore(&other, save(&engine, empty, "quest").path()).unwrap().sequence;
    [(&engine, empty), (&other, copy)].into_iter().for_each(|(engine, id)| build(engine, id));
    same([(&engine, empty), (&other, copy)]);
}

pub fn a_restored_sampler_goes_on_with_its_draws(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let [engine, other] = [(); 2].map(|()| suite.engine(&model, 1, 64));
    let sample = |engine: &Engine, sequence, token: i32| {
        let plan = [StepEntry { sequence, tokens: &[token], phase: Phase::Decode, output: StepOutput::Sample }];
        engine.step(&plan, Measures::NONE, &NO_CANCEL).unwrap().sequences[0].token_id.unwrap()
    };
    let sequence = full_sequence(&engine, 256);
    logits(&engine, sequence, &prompt(30));
    let sampler =
        SamplerOptions { temperature: 1.5, top_k: 50, repeat_penalty: 1.2, answer_start: 30, seed: 9, ..SamplerOptions::greedy() };
    engine.set_sampler(sequence, sampler).unwrap();
    let mut token = 1;
    (0..10).for_each(|_| token = sample(&engine, sequence, token));
    let file = save(&engine, sequence, "full");
    let selector = |_: &[u8]| Ok(Settings::full().into());
    let copy = other.restore_sequence(file.path(), &selector, &NO_CANCEL).unwrap().sequence;
    for _ in 0..20 {
        let next = sample(&engine, sequence, token);
        assert_eq!(sample(&other, copy, token), next);
        token = next;
    }
}

/// A small snapshot with every kind of section.
fn small(engine: &Engine) -> Vec<u8> {
    let sequence = engine.create_sequence(400, KvFormat::Q8, settings("ctkvr").into()).unwrap();
    prefill(engine, sequence, &prompt(150));
    build(engine, sequence);
    decode(engine, sequence, 1, 20);
    let file = save(engine, sequence, "ctkvr");
    engine.close_sequence(sequence);
    std::fs::read(file.path()).unwrap()
}

fn restored(engine: &Engine, bytes: &[u8]) -> Result<RestoredSequence> {
    restore(engine, TemporaryFile::with(bytes).path())
}

fn refusal(engine: &Engine, bytes: &[u8], what: &str) -> &'static str {
    match restored(engine, bytes) {
        Err(error @ Error::BadSnapshot { field, .. }) => {
            assert_eq!(error.code(), "CTKVR_BAD_SNAPSHOT");
            field
        }
        other => panic!("{what}: {other:?}"),
    }
}

pub fn a_damaged_snapshot_is_refused(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let bytes = small(&engine);
    let mut random = Random(5);
    for _ in 0..200 {
        let (at, bit) = (random.number() as usize % bytes.len(), random.number() % 8);
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        refusal(&engine, &damaged, &format!("bit {bit} of byte {at}"));
    }
    for _ in 0..50 {
        let len = random.number() as usize % bytes.len();
        refusal(&engine, &bytes[..len], &format!("cut to {len}"));
    }
    assert_eq!(refusal(&engine, &[], "empty"), "size");
    assert_eq!(refusal(&engine, b"GGUF and some more, so that it is as long as a header is, and longer", "no snapshot"), "magic");
    let mut newer = bytes.clone();
    newer[8] += 1;
    assert_eq!(refusal(&engine, &newer, "a newer version"), "version");
    let missing = restore(&engine, Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(missing.code(), "CTKVR_FILE_NOT_FOUND");
    assert_eq!(engine.kv_usage().pages, 0, "what was refused holds no pages");
    assert!(restored(&engine, &bytes).is_ok());
}

const SECTIONS: [&str; 7] = ["engine", "shape", "settings", "queries", "prompt", "index", "page"];

/// With its checksums right, and something else in it: refused, or a sequence that can be used. No panic, no room for what is not there.
pub fn a_made_up_snapshot_does_no_harm(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let bytes = small(&engine);
    let mut reader = SnapshotReader::new(&bytes).unwrap();
    let sections = SECTIONS.map(|name| reader.section(name).unwrap());
    let mut random = Random(11);
    let (num_refused, num_used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for round in 0..700 {
        let changed = round % SECTIONS.len();
        let mut out = SnapshotWriter::new(Vec::new()).unwrap();
        for (i, (name, content)) in SECTIONS.into_iter().zip(sections).enumerate() {
            let mut content = content.to_vec();
            if i == changed {
                // Most numbers are at the beginning.
                let most = if random.number().is_multiple_of(2) { content.len() } else { content.len().min(200) };
                let at = random.number() as usize % most;
                match random.number() % 4 {
                    0 => content[at] = random.number() as u8,
                    1 => content.truncate(at),
                    2 => content[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                    _ => content[at] ^= 1,
                }
            }
            out.section(name, &content).unwrap();
        }
        match restored(&engine, &out.finish().unwrap().0) {
            Err(_) => num_refused.fetch_add(1, Ordering::Relaxed),
            Ok(RestoredSequence { sequence, .. }) => {
                for _ in 0..20 {
                    let plan = [StepEntry { sequence, tokens: &[1], phase: Phase::Decode, output: StepOutput::Sample }];
                    // Keys may be made up so that nothing finite comes out.
                    if engine.step(&plan, Measures::NONE, &NO_CANCEL).is_err() {
                        break;
                    }
                }
                engine.close_sequence(sequence);
                num_used.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
    let (refused, used) = (num_refused.into_inner(), num_used.into_inner());
    assert!(refused > 200 && used > 50, "{refused} refused, {used} used");
    assert_eq!(engine.kv_usage().pages, 0);
}

pub fn a_snapshot_of_something_else_is_refused(suite: &Suite) {
    let _alone = alone();
    let (_file, model) = tiny();
    let engine = suite.engine(&model, 1, 64);
    let bytes = small(&engine);
    // Another model of the same shape.
    let file = TinyModel { floats: vec![("llama.rope.freq_base".into(), 5e5)], ..TinyModel::new("llama") }.write();
    let other = suite.engine(&load(file.path()), 1, 64);
    match restored(&other, &bytes).unwrap_err() {
        Error::BadSnapshot { path, field: "model", expected, actual } => {
            assert!(
                expected.contains(&model.fingerprint().to_string()) && actual.contains(&other.model().fingerprint().to_string())
            );
            assert!(path.to_string_lossy().contains("ctkvr-test"), "{path:?}");
        }
        error => panic!("{error:?}"),
    }
    // Other settings than those it was saved with.
    let file = TemporaryFile::with(&bytes);
    let given = |settings: Settings| {
        let restored = engine.restore_sequence(file.path(), &|_| Ok(settings.clone().into()), &NO_CANCEL);
        match restored.unwrap_err() {
            Error::BadSnapshot { field, .. } => field,
            error => panic!("{error:?}"),
        }
    };
    assert_eq!(given(settings("quest")), "selector");
    assert_eq!(given(Settings { recent_window: 33, ..settings("ctkvr") }), "recentWindow");
    assert_eq!(given(Settings { num_centroids: 40, ..settings("ctkvr") }), "numCentroids");
    // Where nothing can be written.
    let sequence = full_sequence(&engine, 10);
    let refused = engine.save_sequence(sequence, Path::new("/nowhere/at/all"), &[]).unwrap_err();
    assert_eq!(refused.code(), "CTKVR_OUTPUT_FAILED");
    engine.close_sequence(sequence);
    assert_eq!(engine.save_sequence(sequence, file.path(), &[]).unwrap_err().code(), "CTKVR_CLOSED");
    assert_eq!(std::fs::read(file.path()).unwrap(), bytes, "the old file is as it was");
}
