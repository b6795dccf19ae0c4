//! Our engine against llama.cpp's own on the same file: same next-token distributions for every family, same tokens.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

use std::path::Path;
use std::sync::Arc;

use ctkvr_cpu::{CpuExecutor, CpuOptions, Loading};
use ctkvr_engine::{Engine, EngineOptions, Executor};
use ctkvr_engine_suite::helpers::{
    NO_CANCEL, alone, full_sequence, kl_divergence, load, logits, most_probable, some_text, test_model,
};
use ctkvr_engine_suite::llama_reference::LlamaReference;
use ctkvr_engine_suite::tiny_model::{GRANITE_SCALES, TinyModel, VOCAB_SIZE, gemma3_windows, granite_scales};
use ctkvr_engine_suite::widened_model::widen;
use ctkvr_kernels::Kernels;
use ctkvr_model::{Error, Model, RopeOverrides, RopeScaling};
use ctkvr_reference::ReferenceExecutor;
use llama_cpp_sys_2 as sys;

/// ggml's threads wait for each other by spinning: when anything else runs on the machine, two are hundreds of times slower than one.
const REFERENCE_THREADS: i32 = 1;
const OUR_THREADS: usize = 2;

fn engine_on(model: &Arc<Model>, executor: Box<dyn Executor>, prefill_chunk: usize) -> Engine {
    Engine::new(Arc::clone(model), executor, EngineOptions { prefill_chunk }).unwrap()
}

fn engine_with(model: &Arc<Model>, options: CpuOptions, prefill_chunk: usize) -> Engine {
    let loading = Loading { progress: &mut |_| (), cancel: &NO_CANCEL };
    engine_on(model, Box::new(CpuExecutor::load(Arc::clone(model), options, loading).unwrap()), prefill_chunk)
}

fn cpu_engine(model: &Arc<Model>, num_threads: usize, prefill_chunk: usize) -> Engine {
    engine_with(model, CpuOptions { num_threads, ..CpuOptions::default() }, prefill_chunk)
}

/// Something that appends tokens and gives the logits of the last.
trait Continue {
    fn append(&mut self, tokens: &[i32]) -> Vec<f32>;
}

impl Continue for LlamaReference {
    fn append(&mut self, tokens: &[i32]) -> Vec<f32> {
        self.decode(tokens)
    }
}

impl Continue for (&Engine, ctkvr_core::SequenceId) {
    fn append(&mut self, tokens: &[i32]) -> Vec<f32> {
        logits(self.0, self.1, tokens)
    }
}

/// Mean and largest KL of next-token distributions, nats, over the prompt's end and `steps` tokens that the reference chooses greedily.
fn diverge(reference: &mut dyn Continue, other: &mut dyn Continue, prompt: &[i32], steps: usize) -> (f64, f64) {
    let mut divergences = Vec::new();
    let mut next = prompt.to_vec();
    for _ in 0..=steps {
        let expected = reference.append(&next);
        divergences.push(kl_divergence(&expected, &other.append(&next)));
        next = vec![most_probable(&expected)];
    }
    (divergences.iter().sum::<f64>() / divergences.len() as f64, divergences.iter().copied().fold(0.0, f64::max))
}

/// Our engine against llama.cpp's with its default attention.
fn compare(engine: &Engine, path: &Path, prompt: &[i32], steps: usize) -> (f64, f64) {
    let max_tokens = prompt.len() + steps + 1;
    let mut reference = LlamaReference::new(path, max_tokens, REFERENCE_THREADS, true);
    diverge(&mut reference, &mut (engine, full_sequence(engine, max_tokens)), prompt, steps)
}

fn tiny_prompt(len: usize) -> Vec<i32> {
    (0..len).map(|i| ((i * 7919 + i * i * 31) % VOCAB_SIZE) as i32).collect()
}

/// Every family and every variant the graph knows, against llama.cpp; also on the reference executor.
#[test]
fn tiny_models_of_every_family_give_llama_cpps_distributions() {
    let _alone = alone();
    let base = TinyModel::new;
    let rope = |architecture: &str, key: &str| format!("{architecture}.rope.{key}");
    let cases = [
        ("llama, tied", base("llama")),
        ("llama, own output, factors of rope", TinyModel { tied: false, rope_factors: true, ..base("llama") }),
        ("llama, biases", TinyModel { qkv_bias: true, ..base("llama") }),
        ("llama, Q8_0", TinyModel { kind: sys::GGML_TYPE_Q8_0, ..base("llama") }),
        ("llama, Q4_0", TinyModel { kind: sys::GGML_TYPE_Q4_0, ..base("llama") }),
        (
            "llama, linear scaling",
            TinyModel {
                floats: vec![(rope("llama", "scaling.factor"), 4.0), (rope("llama", "freq_base"), 50_000.0)],
                texts: vec![(rope("llama", "scaling.type"), "linear".into())],
                ..base("llama")
            },
        ),
        ("qwen2", base("qwen2")),
        ("qwen2, Q4_0", TinyModel { kind: sys::GGML_TYPE_Q4_0, tied: false, ..base("qwen2") }),
        (
            "qwen2, yarn",
            TinyModel {
                floats: vec![(rope("qwen2", "scaling.factor"), 4.0)],
                texts: vec![(rope("qwen2", "scaling.type"), "yarn".into())],
                numbers: vec![(rope("qwen2", "scaling.original_context_length"), 64)],
                ..base("qwen2")
            },
        ),
        ("qwen3", base("qwen3")),
        ("qwen3, own output", TinyModel { tied: false, ..base("qwen3") }),
        ("olmo2", base("olmo2")),
        ("olmo2, biases, Q8_0", TinyModel { kind: sys::GGML_TYPE_Q8_0, qkv_bias: true, ..base("olmo2") }),
        ("granite", base("granite")),
        ("granite, tied, factors of rope", TinyModel { tied: true, rope_factors: true, ..base("granite") }),
        ("granite, scales of a real one", TinyModel { floats: granite_scales([12.0, 0.22, 0.015_625, 8.0]), ..base("granite") }),
        ("granite, no scales, Q4_0", {
            let kind = sys::GGML_TYPE_Q4_0;
            TinyModel { kind, floats: vec![("granite.logit_scale".into(), 1.0)], ..base("granite") }
        }),
    ];
    let prompt = tiny_prompt(200);
    for (name, tiny) in cases.into_iter().chain(cases_of_windows_and_rotation()) {
        let file = tiny.write();
        let model = load(file.path());
        let limit = limit_of(file.path(), &prompt, 8);
        let reference = Box::new(ReferenceExecutor::new(Arc::clone(&model)).unwrap());
        for (executor, engine) in [("CPU", cpu_engine(&model, OUR_THREADS, 64)), ("reference", engine_on(&model, reference, 64))] {
            let (mean, largest) = compare(&engine, file.path(), &prompt, 8);
            println!("{name}, {executor}: mean KL {mean:.2e}, largest {largest:.2e}");
            assert!(mean < limit, "{name}, {executor}: mean KL {mean}, limit {limit}");
        }
    }
}

/// Families whose layers differ, and those that turn heads in other ways.
fn cases_of_windows_and_rotation() -> Vec<(&'static str, TinyModel)> {
    let base = TinyModel::new;
    let with = |numbers: Vec<(String, u32)>, more: &[(&str, u32)]| -> Vec<(String, u32)> {
        numbers.into_iter().chain(more.iter().map(|(key, value)| (key.to_string(), *value))).collect()
    };
    let float = |key: &str, value: f32| (key.to_string(), value);
    let linear = vec![("gemma3.rope.scaling.type".to_string(), "linear".to_string())];
    vec![
        ("gemma3", base("gemma3")),
        ("gemma3, Q8_0", TinyModel { kind: sys::GGML_TYPE_Q8_0, ..base("gemma3") }),
        ("gemma3, no window", TinyModel { numbers: vec![], ..base("gemma3") }),
        ("gemma3, every third layer", TinyModel { numbers: gemma3_windows(50, 3), ..base("gemma3") }),
        ("gemma3, tied", TinyModel { tied: true, ..base("gemma3") }),
        ("gemma3, a window of 1", TinyModel { numbers: gemma3_windows(1, 2), ..base("gemma3") }),
        (
            "gemma3, rope of both kinds",
            TinyModel {
                floats: vec![
                    float("gemma3.rope.freq_base", 1e6),
                    float("gemma3.rope.freq_base_swa", 500.0),
                    float("gemma3.rope.scaling.factor", 8.0),
                ],
                texts: linear,
                ..base("gemma3")
            },
        ),
        ("smollm3", base("smollm3")),
        ("smollm3, Q4_0", TinyModel { kind: sys::GGML_TYPE_Q4_0, tied: false, ..base("smollm3") }),
        ("phi3", base("phi3")),
        (
            "phi3, a window that llama.cpp ignores",
            TinyModel { numbers: with(vec![], &[("phi3.attention.sliding_window", 16)]), ..base("phi3") },
        ),
        ("phi3, Q4_K", TinyModel { kind: sys::GGML_TYPE_Q4_K, tied: false, ..base("phi3") }),
        (
            "phi3, long factors, a part of each head",
            TinyModel {
                long_rope: Some(24),
                numbers: with(vec![], &[("phi3.rope.dimension_count", 48), ("phi3.rope.scaling.original_context_length", 64)]),
                floats: vec![float("phi3.rope.scaling.attn_factor", 1.19)],
                ..base("phi3")
            },
        ),
        (
            "phi3, short factors",
            TinyModel {
                long_rope: Some(32),
                numbers: with(vec![], &[("phi3.rope.scaling.original_context_length", 512)]),
                ..base("phi3")
            },
        ),
    ]
}

/// Windows that begin inside and behind the spans and blocks that a long prompt's attention is dealt out in, also in bf16; with tokens decoded behind it.
#[test]
fn windows_of_long_prompts_give_llama_cpps_distributions() {
    let _alone = alone();
    for (window, len) in [(300, 900), (2100, 4500)] {
        let file = TinyModel { numbers: gemma3_windows(window, 2), ..TinyModel::new("gemma3") }.write();
        let prompt = tiny_prompt(len);
        let limit = limit_of(file.path(), &prompt, 4);
        for threads in [1, 4] {
            let (mean, largest) = compare(&cpu_engine(&load(file.path()), threads, 700), file.path(), &prompt, 4);
            println!("a window of {window}, a prompt of {len}, {threads} threads: mean KL {mean:.2e}, largest {largest:.2e}");
            assert!(mean < limit, "a window of {window}: mean KL {mean}, limit {limit}");
        }
        let other = TinyModel { numbers: gemma3_windows(window + 8, 2), ..TinyModel::new("gemma3") }.write();
        let (mean, _) = compare(&cpu_engine(&load(other.path()), 2, 700), file.path(), &prompt, 4);
        println!("8 positions more: mean KL {mean:.2e}");
        assert!(mean > limit / 10.0, "a window of {window}: 8 positions more make no difference, mean KL {mean}");
    }
}

/// What only some families have is not without effect: files that differ in it are different models.
#[test]
fn windows_and_rotations_matter() {
    let _alone = alone();
    let gemma = || TinyModel::new("gemma3");
    let float = |key: &str, value| vec![(key.to_string(), value)];
    let as_llama = || {
        let texts = vec![("general.architecture".to_string(), "llama".to_string())];
        let numbers =
            ["block_count", "embedding_length", "feed_forward_length", "context_length"].map(|key| format!("llama.{key}"));
        let numbers = numbers.into_iter().zip([4, 256, 512, 512]).chain([("llama.attention.head_count".to_string(), 4)]);
        let numbers = numbers.chain([("llama.attention.head_count_kv".to_string(), 2)]).collect();
        TinyModel { texts, numbers, floats: float("llama.attention.layer_norm_rms_epsilon", 1e-5), ..TinyModel::new("smollm3") }
    };
    let phi = |original| TinyModel {
        long_rope: Some(32),
        numbers: vec![("phi3.rope.scaling.original_context_length".into(), original)],
        ..TinyModel::new("phi3")
    };
    let cases = [
        ("a longer window", gemma(), TinyModel { numbers: gemma3_windows(30, 2), ..gemma() }),
        ("other local layers", gemma(), TinyModel { numbers: gemma3_windows(24, 3), ..gemma() }),
        ("another base of local layers", gemma(), TinyModel { floats: float("gemma3.rope.freq_base_swa", 500.0), ..gemma() }),
        ("another base of other layers", gemma(), TinyModel { floats: float("gemma3.rope.freq_base", 500.0), ..gemma() }),
        ("layers without rotation", TinyModel::new("smollm3"), as_llama()),
        ("long factors", phi(512), phi(64)),
    ];
    let prompt = tiny_prompt(200);
    for (name, one, other) in cases {
        let (one, other) = (one.write(), other.write());
        let (mean, _) = compare(&cpu_engine(&load(other.path()), 1, 64), one.path(), &prompt, 4);
        println!("{name}: mean KL {mean:.2e}");
        assert!(mean > 1e-3, "{name}: mean KL {mean}");
    }
}

/// Every type of weight that is packed, one row at a time and many; each must also differ from ggml's own products in the order of its
/// sums, or it was not used.
#[test]
fn packed_products_give_llama_cpps_distributions() {
    let _alone = alone();
    let mut all: Vec<_> = Kernels::available().into_iter().filter_map(|kernels| kernels.packed).collect();
    all.dedup_by_key(|packed| packed.name);
    if all.is_empty() {
        println!("skipped: this CPU has no products of packed weights");
        return;
    }
    let prompt = tiny_prompt(200);
    for kind in [
        sys::GGML_TYPE_Q4_0,
        sys::GGML_TYPE_Q4_1,
        sys::GGML_TYPE_Q5_0,
        sys::GGML_TYPE_Q5_1,
        sys::GGML_TYPE_Q8_0,
        sys::GGML_TYPE_Q4_K,
        sys::GGML_TYPE_Q5_K,
    ] {
        let file = TinyModel { kind, qkv_bias: true, ..TinyModel::new("llama") }.write();
        let limit = limit_of(file.path(), &prompt, 8);
        let engine = |packed| {
            // Without tiles: prompts too are to take these products.
            let options = CpuOptions { packed, num_threads: 2, ..CpuOptions::with(Kernels::available()[0]) };
            engine_with(&load(file.path()), options, 128)
        };
        let logits_of = |engine: &Engine| logits(engine, full_sequence(engine, 200), &prompt);
        let plain = logits_of(&engine(None));
        for packed in &all {
            let (ours, name) = (engine(Some(*packed)), packed.name);
            let (mean, largest) = compare(&ours, file.path(), &prompt, 8);
            println!("{name}, weights of ggml type {kind}: mean KL {mean:.2e}, largest {largest:.2e}");
            assert!(mean < limit, "{name}, ggml type {kind}: mean KL {mean}, limit {limit}");
            assert_ne!(logits_of(&ours), plain, "{name}, ggml type {kind}");
        }
    }
}

/// The check above must be able to fail: another rotation is another model.
#[test]
fn another_rope_base_gives_other_distributions() {
    let _alone = alone();
    let file = TinyModel::new("llama").write();
    let rope = RopeOverrides { freq_base: Some(500.0), ..RopeOverrides::default() };
    let model = Arc::new(Model::load(file.path(), rope).unwrap());
    let (mean, _) = compare(&cpu_engine(&model, 1, 64), file.path(), &tiny_prompt(200), 4);
    assert!(mean > 1e-3, "mean KL {mean}");
}

/// What a caller says of rope, beyond the length that the model was trained for.
#[test]
fn rope_by_flags_is_llama_cpps() {
    let _alone = alone();
    type Set = fn(&mut sys::llama_context_params);
    let twofold = RopeOverrides { freq_scale: Some(0.5), ..RopeOverrides::default() };
    let yarn = RopeOverrides { scaling: Some(RopeScaling::Yarn), ..twofold };
    let cases: [(&str, RopeOverrides, Set); 5] = [
        ("scale", twofold, |params| params.rope_freq_scale = 0.5),
        ("linear", RopeOverrides { scaling: Some(RopeScaling::Linear), freq_base: Some(20_000.0), ..twofold }, |params| {
            (params.rope_freq_scale, params.rope_freq_base) = (0.5, 20_000.0);
            params.rope_scaling_type = sys::LLAMA_ROPE_SCALING_TYPE_LINEAR;
        }),
        ("yarn", yarn, |params| {
            params.rope_freq_scale = 0.5;
            params.rope_scaling_type = sys::LLAMA_ROPE_SCALING_TYPE_YARN;
        }),
        (
            "yarn, all of its numbers",
            RopeOverrides {
                original_context: Some(300),
                ext_factor: Some(0.7),
                beta_fast: Some(16.0),
                beta_slow: Some(2.0),
                ..yarn
            },
            |params| {
                params.rope_freq_scale = 0.5;
                params.rope_scaling_type = sys::LLAMA_ROPE_SCALING_TYPE_YARN;
                (params.yarn_orig_ctx, params.yarn_ext_factor) = (300, 0.7);
                (params.yarn_beta_fast, params.yarn_beta_slow) = (16.0, 2.0);
            },
        ),
        ("yarn, no extrapolation", RopeOverrides { ext_factor: Some(0.0), attn_factor: Some(1.3), ..yarn }, |params| {
            params.rope_freq_scale = 0.5;
            params.rope_scaling_type = sys::LLAMA_ROPE_SCALING_TYPE_YARN;
            (params.yarn_ext_factor, params.yarn_attn_factor) = (0.0, 1.3);
        }),
    ];
    let prompt = tiny_prompt(900);
    for architecture in ["llama", "qwen2", "gemma3"] {
        let file = TinyModel { tied: false, ..TinyModel::new(architecture) }.write();
        let plain = load(file.path());
        let mut fingerprints = vec![plain.fingerprint()];
        for (name, rope, set) in &cases {
            let llama = || LlamaReference::with(file.path(), prompt.len() + 5, REFERENCE_THREADS, true, set);
            let model = Arc::new(Model::load(file.path(), *rope).unwrap());
            let engine = cpu_engine(&model, OUR_THREADS, 512);
            let (mean, _) = diverge(&mut llama(), &mut (&engine, full_sequence(&engine, 905)), &prompt, 4);
            let engine = cpu_engine(&plain, OUR_THREADS, 512);
            let (without, _) = diverge(&mut llama(), &mut (&engine, full_sequence(&engine, 905)), &prompt, 4);
            println!("{architecture}, {name}: mean KL {mean:.2e}, without it {without:.2e}");
            assert!(mean < 1e-3 && without > 2e-3, "{architecture}, {name}: mean KL {mean}, without it {without}");
            fingerprints.push(model.fingerprint());
        }
        fingerprints.sort_by_key(|fingerprint| fingerprint.0);
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), cases.len() + 1, "prompts of one are not another's");
    }
}

/// Nor is a factor of Granite's without effect: files that differ in one are different models.
#[test]
fn each_scale_of_granite_matters() {
    let _alone = alone();
    let file = TinyModel::new("granite").write();
    let prompt = tiny_prompt(200);
    for changed in 0..GRANITE_SCALES.len() {
        let mut scales = GRANITE_SCALES;
        scales[changed] *= 1.5;
        let other = TinyModel { floats: granite_scales(scales), ..TinyModel::new("granite") }.write();
        let (mean, _) = compare(&cpu_engine(&load(other.path()), 1, 64), file.path(), &prompt, 4);
        println!("scale {changed} * 1.5: mean KL {mean:.2e}");
        assert!(mean > 1e-3, "scale {changed}: mean KL {mean}");
    }
}

/// The same weights in f16: no activation is rounded to 8 bits, so what remains is the order of summation.
#[test]
fn a_real_model_widened_to_f16_gives_llama_cpps_distributions() {
    let _alone = alone();
    let Some(path) = test_model() else { return };
    let wide = widen(&path);
    let model = load(wide.path());
    let prompt = real_prompt(&model);
    let (mean, largest) = compare(&cpu_engine(&model, OUR_THREADS, 512), wide.path(), &prompt, 64);
    println!("weights in f16: {} tokens of prompt, 64 greedy tokens: mean KL {mean:.2e}, largest {largest:.2e}", prompt.len());
    assert!(mean < 1e-3, "mean KL {mean}");
}

#[test]
fn a_real_model_gives_llama_cpps_distributions() {
    let _alone = alone();
    let Some(path) = test_model() else { return };
    let model = load(&path);
    let engine = cpu_engine(&model, OUR_THREADS, 512);
    let prompt = real_prompt(&model);
    let limit = limit_of(&path, &prompt, 64);
    for flash in [true, false] {
        let mut reference = LlamaReference::new(&path, prompt.len() + 65, REFERENCE_THREADS, flash);
        let sequence = full_sequence(&engine, prompt.len() + 65);
        let (mean, largest) = diverge(&mut reference, &mut (&engine, sequence), &prompt, 64);
        println!("ours against llama.cpp (flash attention {flash}): mean KL {mean:.2e}, largest {largest:.2e}");
        assert!(mean < limit, "mean KL {mean}, limit {limit}");
    }
}

/// Mean KL that counts as equal, nats: 0.001, or four times what llama.cpp's two ways of attending differ by on this file (KL grows with
/// the square of the logits' difference: these may differ by twice as much). With quantised weights ggml rounds activations to 8 bits; one rounding that falls the other way changes later ones, so that engines which differ in
/// nothing but the order of a sum drift apart by an amount that is the model's own.
fn limit_of(path: &Path, prompt: &[i32], steps: usize) -> f64 {
    let llama = |flash| LlamaReference::new(path, prompt.len() + steps + 1, REFERENCE_THREADS, flash);
    let (floor, _) = diverge(&mut llama(true), &mut llama(false), prompt, steps);
    println!("llama.cpp against itself (flash attention on and off): mean KL {floor:.2e}");
    f64::max(1e-3, 4.0 * floor)
}

/// 2,000 tokens of the text that CTKVR_TEST_TEXT names, otherwise of this crate's own source.
fn real_prompt(model: &Model) -> Vec<i32> {
    let text = match std::env::var_os("CTKVR_TEST_TEXT") {
        Some(path) => std::fs::read_to_string(path).unwrap().chars().take(12_000).collect(),
        None => some_text(12_000),
    };
    let mut prompt = model.tokenizer().tokenize(&text, false).unwrap();
    assert!(prompt.len() >= 2000, "{} tokens", prompt.len());
    prompt.truncate(2000);
    prompt
}

const TEXTS: [(&str, &str); 9] = [
    (
        "English",
        "Call me Ishmael. Some years ago - never mind how long precisely - having little money, I'd go to sea; 1,234 of 'em.",
    ),
    ("code", "fn main() {\n    let x = vec![1u8; 10];\n\tprintln!(\"{x:?}\");\n}\n\n\n// ok"),
    ("Unicode", "Żółć, naïve café, Ελληνικά, кириллица, 中文字符, العربية, עברית, ไทย"),
    ("emoji", "👩‍👩‍👧‍👦🏳️‍🌈 🙂🙃 ok 🇺🇳"),
    ("empty", ""),
    ("spaces", "     "),
    ("whitespace", " \t\n\r\n  \n"),
    ("control characters", "a\u{0}b\u{1b}[0m\u{feff}\u{200b}"),
    ("special tokens", "<|im_start|>user\n<|im_end|><|endoftext|><s></s>"),
];

#[test]
fn tokens_are_llama_cpps_and_detokenize_to_the_text() {
    let Some(path) = test_model() else { return };
    let model = load(&path);
    let reference = LlamaReference::new(&path, 64, 1, true);
    for (name, text) in TEXTS {
        for parse_special in [false, true] {
            let tokens = model.tokenizer().tokenize(text, parse_special).unwrap();
            assert_eq!(tokens, reference.tokenize(text, parse_special), "{name}");
            let bytes: Vec<u8> = tokens.iter().flat_map(|token| model.tokenizer().token_bytes(*token, true).unwrap()).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), text, "{name}");
        }
    }
}

#[test]
fn control_tokens_in_text_stay_text() {
    let check = |model: &Model| {
        let tokenizer = model.tokenizer();
        let control = tokenizer.control_tokens();
        assert!(!control.is_empty());
        assert!(control.windows(2).all(|pair| pair[0].text.len() >= pair[1].text.len()), "longest first");
        for token in control {
            assert_eq!(tokenizer.tokenize(&token.text, true).unwrap().last(), Some(&token.token_id), "{}", token.text);
            assert!(!tokenizer.tokenize(&token.text, false).unwrap().contains(&token.token_id), "{}", token.text);
            assert_eq!(tokenizer.token_bytes(token.token_id, true).unwrap(), token.text.as_bytes());
            assert!(tokenizer.token_bytes(token.token_id, false).unwrap().is_empty(), "{}", token.text);
        }
    };
    check(&load(TinyModel::new("llama").write().path()));
    if let Some(path) = test_model() {
        check(&load(&path));
    }
}

#[test]
fn long_words_do_not_overflow_a_stack_and_ids_outside_the_vocabulary_are_refused() {
    let file = TinyModel::new("llama").write();
    let mut models = vec![load(file.path())];
    models.extend(test_model().map(|path| load(&path)));
    for model in models {
        let tokenizer = model.tokenizer();
        let word = "ab".repeat(200_000);
        // As on a thread of a JavaScript runtime's pool.
        let tokens = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(512 << 10)
                .spawn_scoped(scope, || tokenizer.tokenize(&word, false).unwrap())
                .unwrap()
                .join()
                .unwrap()
        });
        assert!(!tokens.is_empty());
        for id in [-1, tokenizer.vocab_size() as i32, i32::MAX] {
            assert!(matches!(tokenizer.token_bytes(id, true), Err(Error::InvalidOption { .. })));
        }
    }
}
