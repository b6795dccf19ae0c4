//! Our engine against llama.cpp's own on the same file: same next-token distributions for every family, same tokens.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests: a failure is a failed test")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::dense_attention::DenseAttention;
use common::llama_reference::LlamaReference;
use common::tiny_model::{TinyModel, VOCAB_SIZE};
use common::widened_model::widen;
use common::{alone, cpu_engine, engine_with, full_sequence, kl_divergence, load, logits, most_probable, some_text, test_model};
use ctkvr_kernels::Kernels;
use ctkvr_model::{Engine, Error, LoadOptions, Model};
use llama_cpp_sys_2 as sys;

/// ggml's threads wait for each other by spinning: when anything else runs on the machine, two are hundreds of times slower than one.
const REFERENCE_THREADS: i32 = 1;
const OUR_THREADS: usize = 2;

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

/// Every family and every variant the graph knows, against llama.cpp; also with an attention written for tests only.
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
    ];
    let prompt = tiny_prompt(200);
    for (name, tiny) in cases {
        let file = tiny.write();
        let model = load(file.path());
        let limit = limit_of(file.path(), &prompt, 8);
        for (backend, engine) in [
            ("CpuAttention", cpu_engine(&model, OUR_THREADS, 64)),
            (
                "dense reference",
                engine_with(&model, Arc::new(DenseAttention::new(model.spec().attention_shape())), OUR_THREADS, 64),
            ),
        ] {
            let (mean, largest) = compare(&engine, file.path(), &prompt, 8);
            println!("{name}, {backend}: mean KL {mean:.2e}, largest {largest:.2e}");
            assert!(mean < limit, "{name}, {backend}: mean KL {mean}, limit {limit}");
        }
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
            let options = LoadOptions { packed, ..LoadOptions::with(Kernels::available()[0]) };
            cpu_engine(&common::load_with(file.path(), options), 2, 128)
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
    let mut options = LoadOptions::default();
    options.rope.freq_base = Some(500.0);
    let model = common::load_with(file.path(), options);
    let (mean, _) = compare(&cpu_engine(&model, 1, 64), file.path(), &tiny_prompt(200), 4);
    assert!(mean > 1e-3, "mean KL {mean}");
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
