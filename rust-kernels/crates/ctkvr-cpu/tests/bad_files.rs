//! Files that are not what they say: every one ends in a typed error, never in a crash. Damaged files are opened in a child process, so
//! that an abort inside ggml would be seen and named.
#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure is a failed test")]

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_engine_suite::helpers::NO_CANCEL;
use ctkvr_engine_suite::tiny_model::{Random, TemporaryFile, TinyModel, gemma3_windows, granite_scales as scales};
use ctkvr_model::{Error, Model, Result, RopeOverrides, inspect};

/// All that reads a file: checks, vocabulary, weights.
fn load(path: &Path, loading: Loading) -> Result<CpuExecutor> {
    let model = Arc::new(Model::load(path, RopeOverrides::default())?);
    CpuExecutor::load(model, CpuOptions { num_threads: 1, ..CpuOptions::default() }, loading)
}

fn load_error(path: &Path) -> Error {
    load(path, Loading { progress: &mut |_| (), cancel: &NO_CANCEL }).err().expect("it should not load")
}

#[test]
fn files_that_are_no_models_are_named_with_the_reason() {
    let directory = std::env::temp_dir();
    assert_eq!(load_error(Path::new("/nowhere/model.gguf")).code(), "CTKVR_FILE_NOT_FOUND");
    assert_eq!(load_error(&directory).code(), "CTKVR_FILE_UNREADABLE");
    let good = TinyModel::new("llama").write();
    let bytes = std::fs::read(good.path()).unwrap();
    let mut version = bytes.clone();
    version[4] = 99;
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "CTKVR_NOT_GGUF"),
        ("one byte", b"G", "CTKVR_NOT_GGUF"),
        ("text", b"Call me Ishmael. Some years ago", "CTKVR_NOT_GGUF"),
        ("magic only", b"GGUF", "CTKVR_CORRUPT_GGUF"),
        ("half", &bytes[..bytes.len() / 2], "CTKVR_CORRUPT_GGUF"),
        ("unknown version", &version, "CTKVR_CORRUPT_GGUF"),
    ];
    for (name, content, code) in cases {
        let file = TemporaryFile::with(content);
        for error in [load_error(file.path()), inspect(file.path()).expect_err("it should not open")] {
            assert_eq!(error.code(), code, "{name}: {error}");
            assert!(error.to_string().contains(file.path().to_str().unwrap()), "{name}: {error}");
            assert!(error.fields().iter().any(|(name, _)| *name == "path"));
        }
    }
}

#[test]
fn safetensors_are_named_with_the_remedy() {
    let json = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let file = TemporaryFile::with(&[&(json.len() as u64).to_le_bytes(), &json[..], &[0; 4]].concat());
    for error in [load_error(file.path()), inspect(file.path()).expect_err("it should not open")] {
        assert_eq!(error.code(), "CTKVR_NOT_GGUF");
        let text = error.to_string();
        assert!(text.contains("safetensors") && text.contains("convert_hf_to_gguf.py"), "{text}");
    }
}

#[test]
fn one_missing_byte_at_the_end_is_found_and_counted() {
    let good = TinyModel::new("llama").write();
    let bytes = std::fs::read(good.path()).unwrap();
    // ggml pads the end: cut into the last tensor itself.
    let file = TemporaryFile::with(&bytes[..bytes.len() - 2048]);
    match load_error(file.path()) {
        Error::CorruptGguf { what, actual, .. } => {
            assert!(what.contains("blk.1.ffn_down.weight"), "{what}");
            assert_eq!(actual, format!("{} bytes", bytes.len() - 2048));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn models_that_do_not_run_say_why_and_can_still_be_inspected() {
    let base = || TinyModel::new("llama");
    let olmo2 = || TinyModel::new("olmo2");
    let (gemma3, phi3) = (|| TinyModel::new("gemma3"), || TinyModel::new("phi3"));
    let number = |key: &str, value| vec![(key.to_string(), value)];
    let text = |key: &str, value: &str| vec![(key.to_string(), value.to_string())];
    let cases = [
        (
            "architecture",
            TinyModel { texts: text("general.architecture", "mamba"), ..base() },
            "\"mamba\"; those that run are llama, qwen2, qwen3, olmo2, granite, gemma3, smollm3 and phi3",
        ),
        ("experts", TinyModel { numbers: number("llama.expert_count", 8), ..base() }, "experts"),
        ("expert groups", TinyModel { numbers: number("llama.expert_group_count", 2), ..base() }, "experts"),
        ("missing tensor", TinyModel { without: vec!["blk.1.attn_k.weight".into()], ..base() }, "blk.1.attn_k.weight"),
        ("other family's tensor", TinyModel { texts: text("general.architecture", "qwen3"), ..base() }, "qwen3.block_count"),
        ("fewer layers", TinyModel { numbers: number("llama.block_count", 1), ..base() }, "blk.1."),
        ("no layers", TinyModel { numbers: number("llama.block_count", 0), ..base() }, "block_count"),
        ("many layers", TinyModel { numbers: number("llama.block_count", u32::MAX), ..base() }, "block_count"),
        ("uneven groups", TinyModel { numbers: number("llama.attention.head_count_kv", 3), ..base() }, "evenly"),
        ("head length", TinyModel { numbers: number("llama.attention.key_length", 32), ..base() }, "blk.0.attn_q.weight"),
        ("wrong shape", TinyModel { numbers: number("llama.feed_forward_length", 511), ..base() }, "ffn"),
        ("partial rotation", TinyModel { numbers: number("llama.rope.dimension_count", 32), ..base() }, "dimension_count"),
        ("rope scaling", TinyModel { texts: text("llama.rope.scaling.type", "longrope"), ..base() }, "longrope"),
        ("unknown rope scaling", TinyModel { texts: text("llama.rope.scaling.type", "x"), ..base() }, "rotary scaling"),
        ("tokenizer", TinyModel { texts: text("tokenizer.ggml.model", "t5"), ..base() }, "t5"),
        ("no norm", TinyModel { without: vec!["blk.1.post_ffw_norm.weight".into()], ..olmo2() }, "blk.1.post_ffw_norm.weight"),
        ("no output", TinyModel { tied: true, ..olmo2() }, "output.weight"),
        (
            "norms of heads",
            TinyModel { norm_lens: Some([64, 64]), ..olmo2() },
            "blk.0.attn_q_norm.weight must have the shape [256, 1]",
        ),
        ("sliding window", TinyModel { numbers: number("olmo2.attention.sliding_window", 64), ..olmo2() }, "sliding window"),
        (
            "capped logits",
            TinyModel { floats: vec![("gemma3.final_logit_softcapping".into(), 30.0)], ..gemma3() },
            "caps its logits",
        ),
        ("no period", TinyModel { numbers: gemma3_windows(24, 0), ..gemma3() }, "sliding_window_pattern"),
        (
            "no norm behind",
            TinyModel { without: vec!["blk.1.post_ffw_norm.weight".into()], ..gemma3() },
            "blk.1.post_ffw_norm.weight",
        ),
        ("no joined matrix", TinyModel { without: vec!["blk.1.attn_qkv.weight".into()], ..phi3() }, "blk.1.attn_qkv.weight"),
        (
            "rows of a joined matrix",
            TinyModel { numbers: number("phi3.feed_forward_length", 256), ..phi3() },
            "ffn_up.weight must have",
        ),
        ("an odd part of a head", TinyModel { numbers: number("phi3.rope.dimension_count", 33), ..phi3() }, "must be even"),
        ("more than a head", TinyModel { numbers: number("phi3.rope.dimension_count", 96), ..phi3() }, "dimension_count"),
        ("no scale of logits", TinyModel { floats: vec![], ..TinyModel::new("granite") }, "granite.logit_scale"),
        ("a scale below 0", TinyModel { floats: scales([12.0, -1.0, 0.1, 8.0]), ..TinyModel::new("granite") }, "residual_scale"),
        (
            "a scale that is no number",
            TinyModel { floats: scales([12.0, 1.0, f32::NAN, 8.0]), ..TinyModel::new("granite") },
            "attention.scale",
        ),
        ("images", TinyModel { numbers: number("granite.deepstack_mapping", 1), ..TinyModel::new("granite") }, "images"),
        ("scale of attention", TinyModel { floats: vec![("llama.attention.scale".into(), 0.5)], ..base() }, "1/sqrt"),
        ("split", TinyModel { numbers: number("split.count", 2), ..base() }, "split"),
    ];
    for (name, tiny, reason) in cases {
        let file = tiny.write();
        let error = load_error(file.path());
        assert_eq!(error.code(), "CTKVR_UNSUPPORTED_MODEL", "{name}: {error}");
        assert!(error.to_string().contains(reason), "{name}: {error}");
        let info = inspect(file.path()).unwrap();
        assert!(info.unsupported_reason.unwrap().contains(reason), "{name}");
        assert!(info.size_bytes > 0 && info.num_parameters > 0);
    }
    let info = inspect(TinyModel::new("qwen3").write().path()).unwrap();
    assert_eq!(info.unsupported_reason, None);
    assert_eq!((info.num_layers, info.num_q_heads, info.num_kv_heads, info.head_dim), (2, 4, 2, 64));
    assert_eq!(info.kv_bytes_per_token, 2 * 2 * 64 * 2 * 2);
    assert_eq!((info.bos_token_id, info.eos_token_id, info.end_of_generation_token_ids), (Some(1), Some(2), vec![2]));
}

#[test]
fn a_load_can_be_cancelled_and_reports_progress() {
    let file = TinyModel { tied: false, ..TinyModel::new("llama") }.write();
    let mut seen = Vec::new();
    load(file.path(), Loading { progress: &mut |fraction| seen.push(fraction), cancel: &NO_CANCEL }).unwrap();
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]) && seen.last() == Some(&1.0), "{seen:?}");
    let cancelled = load(file.path(), Loading { progress: &mut |_| (), cancel: &AtomicBool::new(true) });
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

const CHILD: &str = "CTKVR_TEST_DAMAGE_CHILD";

/// Opens damaged copies of the file that CHILD names until all are done; the one in work is in `<file>.case`.
#[test]
fn child_opens_damaged_files() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let path = Path::new(&path);
    let good = std::fs::read(path).unwrap();
    let (note, damaged) = (path.with_extension("case"), path.with_extension("damaged"));
    let header = header_len(&good);
    let open = |what: String| {
        std::fs::write(&note, what).unwrap();
        let _ = load(&damaged, Loading { progress: &mut |_| (), cancel: &NO_CANCEL });
    };
    let mut random = Random(0x1234_5678);
    let random_cuts: Vec<usize> = (0..40).map(|_| random.number() as usize % good.len()).collect();
    for at in random_cuts.into_iter().chain((0..header).step_by((header / 150).max(1))) {
        std::fs::write(&damaged, &good[..at]).unwrap();
        open(format!("cut at {at}"));
    }
    std::fs::write(&damaged, &good).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
    for round in 0..1500 {
        let mut changed = Vec::new();
        for _ in 0..=round % 3 {
            // The first bytes hold the counts: damage them often.
            let end = if round % 4 == 0 { 400 } else { header };
            let at = 4 + random.number() as usize % (end - 4);
            let value = [0, 1, 0x7f, 0x80, 0xff, random.number() as u8][random.number() as usize % 6];
            file.write_all_at(&[value], at as u64).unwrap();
            changed.push((at, value));
        }
        open(format!("bytes changed (at, to): {changed:?}"));
        for (at, _) in changed {
            file.write_all_at(&good[at..=at], at as u64).unwrap();
        }
    }
    let _ = std::fs::remove_file(&damaged);
    std::fs::write(&note, "done").unwrap();
}

/// Where the first tensor's data begins, more or less: the metadata of the tiny models lies before it.
fn header_len(bytes: &[u8]) -> usize {
    let name = b"blk.1.ffn_down.weight";
    bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 40
}

#[test]
fn damaged_files_never_crash_the_process() {
    let file = TinyModel { tied: false, rope_factors: true, ..TinyModel::new("llama") }.write();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_opens_damaged_files", "--test-threads=1"])
        .env(CHILD, file.path())
        .output()
        .unwrap();
    let note = file.path().with_extension("case");
    let case = std::fs::read_to_string(&note).unwrap_or_default();
    let _ = std::fs::remove_file(&note);
    let damaged = file.path().with_extension("damaged");
    if case != "done" {
        let kept = std::env::temp_dir().join("ctkvr-damaged.gguf");
        let _ = std::fs::rename(&damaged, &kept);
        panic!("{} on \"{case}\" ({})\n{}", output.status, kept.display(), String::from_utf8_lossy(&output.stderr));
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
