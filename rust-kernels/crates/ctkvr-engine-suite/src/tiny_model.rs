//! Writes small GGUF models with random weights, one per family and variant, so that tests need no download.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use llama_cpp_sys_2 as sys;

pub const EMBEDDING_LEN: usize = 256;
pub const NUM_LAYERS: usize = 2;
const HIDDEN_LEN: usize = 512;
const NUM_Q_HEADS: usize = 4;
const NUM_KV_HEADS: usize = 2;
const HEAD_DIM: usize = 64;
pub const VOCAB_SIZE: usize = 384;
pub const CONTEXT: u32 = 512;

/// One model to write.
#[derive(Clone)]
pub struct TinyModel {
    pub architecture: &'static str,
    /// Of matrices; vectors are f32.
    pub kind: sys::ggml_type,
    pub tied: bool,
    pub qkv_bias: bool,
    pub rope_factors: bool,
    pub num_kv_heads: usize,
    pub num_layers: usize,
    /// Long and short factors of rope, of so many values.
    pub long_rope: Option<usize>,
    /// Length of the norms of queries and of keys, where the family has them.
    pub norm_lens: Option<[usize; 2]>,
    /// Metadata beyond what every model has; later entries win.
    pub numbers: Vec<(String, u32)>,
    pub floats: Vec<(String, f32)>,
    pub texts: Vec<(String, String)>,
    /// Tensors left out.
    pub without: Vec<String>,
}

impl TinyModel {
    pub fn new(architecture: &'static str) -> Self {
        Self {
            architecture,
            kind: sys::GGML_TYPE_F32,
            tied: !matches!(architecture, "olmo2" | "granite" | "gemma3"),
            qkv_bias: architecture == "qwen2",
            rope_factors: false,
            num_kv_heads: NUM_KV_HEADS,
            num_layers: match architecture {
                // One that turns nothing.
                "smollm3" => 4,
                // Two local ones, one that sees everything.
                "gemma3" => 3,
                _ => NUM_LAYERS,
            },
            long_rope: None,
            norm_lens: match architecture {
                "qwen3" | "gemma3" => Some([HEAD_DIM; 2]),
                "olmo2" => Some([NUM_Q_HEADS * HEAD_DIM, NUM_KV_HEADS * HEAD_DIM]),
                _ => None,
            },
            numbers: match architecture {
                "gemma3" => gemma3_windows(24, 2),
                _ => vec![],
            },
            floats: match architecture {
                "granite" => granite_scales(GRANITE_SCALES),
                _ => vec![],
            },
            texts: vec![],
            without: vec![],
        }
    }

    /// Writes the model into a file that is deleted with the returned value.
    pub fn write(&self) -> TemporaryFile {
        let file = TemporaryFile::new("gguf");
        // SAFETY: ggml's writer is used as documented: every pointer lives until the file is written.
        unsafe { self.write_to(file.path()) };
        file
    }

    unsafe fn write_to(&self, path: &Path) {
        let c = |text: &str| CString::new(text).unwrap();
        let arch = self.architecture;
        // SAFETY: see `write`.
        unsafe {
            let gguf = sys::gguf_init_empty();
            let set_text = |key: &str, value: &str| sys::gguf_set_val_str(gguf, c(key).as_ptr(), c(value).as_ptr());
            let set_number = |key: &str, value: u32| sys::gguf_set_val_u32(gguf, c(key).as_ptr(), value);
            let set_float = |key: &str, value: f32| sys::gguf_set_val_f32(gguf, c(key).as_ptr(), value);
            set_text("general.architecture", arch);
            set_text("general.name", "tiny");
            for (key, value) in [
                ("block_count", self.num_layers as u32),
                ("embedding_length", EMBEDDING_LEN as u32),
                ("feed_forward_length", HIDDEN_LEN as u32),
                ("context_length", CONTEXT),
                ("attention.head_count", NUM_Q_HEADS as u32),
                ("attention.head_count_kv", self.num_kv_heads as u32),
            ] {
                set_number(&format!("{arch}.{key}"), value);
            }
            set_float(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-5);
            self.set_vocabulary(gguf);
            self.numbers.iter().for_each(|(key, value)| set_number(key, *value));
            self.floats.iter().for_each(|(key, value)| set_float(key, *value));
            self.texts.iter().for_each(|(key, value)| set_text(key, value));

            let context =
                sys::ggml_init(sys::ggml_init_params { mem_size: 64 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: false });
            let mut random = Random(0x9e37_79b9);
            let mut add = |name: String, columns: usize, rows: usize, scale: f32, offset: f32| {
                if self.without.contains(&name) {
                    return;
                }
                let kind = if rows > 1 { self.kind } else { sys::GGML_TYPE_F32 };
                let shape = [columns as i64, rows as i64];
                let tensor = sys::ggml_new_tensor(context, kind, if rows > 1 { 2 } else { 1 }, shape.as_ptr());
                let values: Vec<f32> = (0..columns * rows).map(|_| offset + scale * random.normal()).collect();
                sys::ggml_quantize_chunk(kind, values.as_ptr(), (*tensor).data, 0, rows as i64, columns as i64, std::ptr::null());
                sys::ggml_set_name(tensor, c(&name).as_ptr());
                sys::gguf_add_tensor(gguf, tensor);
            };
            let width = 1.0 / (EMBEDDING_LEN as f32).sqrt();
            // Gemma multiplies embeddings by the root of their length.
            let of_token = if arch == "gemma3" { width } else { 1.0 };
            add("token_embd.weight".into(), EMBEDDING_LEN, VOCAB_SIZE, of_token, 0.0);
            add("output_norm.weight".into(), EMBEDDING_LEN, 1, 0.1 / of_token, 0.2 / of_token);
            if !self.tied {
                add("output.weight".into(), EMBEDDING_LEN, VOCAB_SIZE, of_token, 0.0);
            }
            if self.rope_factors {
                add("rope_freqs.weight".into(), HEAD_DIM / 2, 1, 0.3, 2.0);
            }
            if let Some(len) = self.long_rope {
                add("rope_factors_long.weight".into(), len, 1, 0.3, 3.0);
                add("rope_factors_short.weight".into(), len, 1, 0.1, 1.2);
            }
            let has_norms_behind = matches!(arch, "olmo2" | "gemma3");
            for layer in 0..self.num_layers {
                let name = |tensor: &str| format!("blk.{layer}.{tensor}");
                let (q, kv) = (NUM_Q_HEADS * HEAD_DIM, self.num_kv_heads * HEAD_DIM);
                if arch != "olmo2" {
                    add(name("attn_norm.weight"), EMBEDDING_LEN, 1, 0.1, 1.0);
                }
                // Large enough that attention is not uniform.
                if arch == "phi3" {
                    add(name("attn_qkv.weight"), EMBEDDING_LEN, q + 2 * kv, 1.6 * width, 0.0);
                } else {
                    add(name("attn_q.weight"), EMBEDDING_LEN, q, 1.6 * width, 0.0);
                    add(name("attn_k.weight"), EMBEDDING_LEN, kv, 1.6 * width, 0.0);
                    add(name("attn_v.weight"), EMBEDDING_LEN, kv, width, 0.0);
                }
                add(name("attn_output.weight"), q, EMBEDDING_LEN, 3.0 * width, 0.0);
                if self.qkv_bias {
                    add(name("attn_q.bias"), q, 1, 0.5, 0.0);
                    add(name("attn_k.bias"), kv, 1, 0.5, 0.0);
                    add(name("attn_v.bias"), kv, 1, 0.5, 0.0);
                }
                if let Some([queries, keys]) = self.norm_lens {
                    add(name("attn_q_norm.weight"), queries, 1, 0.1, 1.3);
                    add(name("attn_k_norm.weight"), keys, 1, 0.1, 1.3);
                }
                if has_norms_behind {
                    add(name("post_attention_norm.weight"), EMBEDDING_LEN, 1, 0.1, 0.7);
                    add(name("post_ffw_norm.weight"), EMBEDDING_LEN, 1, 0.1, 0.7);
                }
                if arch != "olmo2" {
                    add(name("ffn_norm.weight"), EMBEDDING_LEN, 1, 0.1, 1.0);
                }
                if arch == "phi3" {
                    add(name("ffn_up.weight"), EMBEDDING_LEN, 2 * HIDDEN_LEN, width, 0.0);
                } else {
                    add(name("ffn_gate.weight"), EMBEDDING_LEN, HIDDEN_LEN, width, 0.0);
                    add(name("ffn_up.weight"), EMBEDDING_LEN, HIDDEN_LEN, width, 0.0);
                }
                add(name("ffn_down.weight"), HIDDEN_LEN, EMBEDDING_LEN, width, 0.0);
            }
            assert!(
                sys::gguf_write_to_file(gguf, c(path.to_str().unwrap()).as_ptr(), false),
                "the test model could not be written"
            );
            sys::gguf_free(gguf);
            sys::ggml_free(context);
        }
    }

    /// A SentencePiece vocabulary: three control tokens, all bytes, a chat token, and filler.
    unsafe fn set_vocabulary(&self, gguf: *mut sys::gguf_context) {
        let c = |text: &str| CString::new(text).unwrap();
        let mut tokens: Vec<String> = vec!["<unk>".into(), "<s>".into(), "</s>".into()];
        let mut types = vec![2i32, 3, 3];
        for byte in 0..=255 {
            tokens.push(format!("<0x{byte:02X}>"));
            types.push(6);
        }
        tokens.push("<|turn|>".into());
        types.push(3);
        while tokens.len() < VOCAB_SIZE {
            tokens.push(format!("\u{2581}w{}", tokens.len()));
            types.push(1);
        }
        let scores: Vec<f32> = (0..VOCAB_SIZE).map(|id| -(id as f32)).collect();
        let owned: Vec<CString> = tokens.iter().map(|token| c(token)).collect();
        let mut pointers: Vec<*const std::ffi::c_char> = owned.iter().map(|token| token.as_ptr()).collect();
        // SAFETY: see `write`.
        unsafe {
            sys::gguf_set_val_str(gguf, c"tokenizer.ggml.model".as_ptr(), c"llama".as_ptr());
            sys::gguf_set_arr_str(gguf, c"tokenizer.ggml.tokens".as_ptr(), pointers.as_mut_ptr(), pointers.len());
            let set = |key: &str, kind, data: *const std::ffi::c_void| {
                sys::gguf_set_arr_data(gguf, c(key).as_ptr(), kind, data, VOCAB_SIZE);
            };
            set("tokenizer.ggml.scores", sys::GGUF_TYPE_FLOAT32, scores.as_ptr().cast());
            set("tokenizer.ggml.token_type", sys::GGUF_TYPE_INT32, types.as_ptr().cast());
            for (key, id) in [("bos", 1), ("eos", 2), ("unknown", 0)] {
                sys::gguf_set_val_u32(gguf, c(&format!("tokenizer.ggml.{key}_token_id")).as_ptr(), id);
            }
        }
    }
}

/// Metadata of Gemma 3's windows: positions of a local layer, and of how many layers the last one sees everything.
pub fn gemma3_windows(window: u32, period: u32) -> Vec<(String, u32)> {
    let names = ["attention.sliding_window", "attention.sliding_window_pattern"];
    names.iter().zip([window, period]).map(|(name, number)| (format!("gemma3.{name}"), number)).collect()
}

/// Such that each changes what comes next.
pub const GRANITE_SCALES: [f32; 4] = [0.5, 0.7, 0.2, 2.0];

/// Metadata of Granite's factors: of the embedding, residuals, attention's scores and logits.
pub fn granite_scales(scales: [f32; 4]) -> Vec<(String, f32)> {
    let names = ["embedding_scale", "residual_scale", "attention.scale", "logit_scale"];
    names.iter().zip(scales).map(|(name, scale)| (format!("granite.{name}"), scale)).collect()
}

/// A file in the system's temporary folder, deleted when dropped.
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    pub fn new(extension: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("ctkvr-test-{}-{number}.{extension}", std::process::id())))
    }

    pub fn with(bytes: &[u8]) -> Self {
        let file = Self::new("gguf");
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// xorshift32: the same numbers on every machine.
pub struct Random(pub u32);

impl Random {
    pub fn number(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Sum of four uniforms, scaled to unit variance.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.number() as f32 / u32::MAX as f32 - 0.5).sum();
        sum * 3f32.sqrt()
    }
}
