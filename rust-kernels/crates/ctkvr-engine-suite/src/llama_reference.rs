//! llama.cpp's own engine on the same file: the reference for our graphs.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

/// A context of llama.cpp with f16 keys and values.
pub struct LlamaReference {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    pub vocab_size: usize,
}

impl LlamaReference {
    /// `flash` chooses between llama.cpp's two ways of attending, which differ in rounding only.
    pub fn new(path: &Path, num_tokens: usize, num_threads: i32, flash: bool) -> Self {
        Self::with(path, num_tokens, num_threads, flash, |_| ())
    }

    /// The same with other settings of the context.
    pub fn with(
        path: &Path,
        num_tokens: usize,
        num_threads: i32,
        flash: bool,
        set: impl FnOnce(&mut sys::llama_context_params),
    ) -> Self {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: llama.cpp's API as documented, results checked.
        unsafe {
            let model = sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
            assert!(!model.is_null(), "llama.cpp could not load the model");
            let mut params = sys::llama_context_default_params();
            params.n_ctx = num_tokens as u32;
            params.n_batch = 512;
            params.n_ubatch = 512;
            params.n_threads = num_threads;
            params.n_threads_batch = num_threads;
            params.flash_attn_type = if flash { sys::LLAMA_FLASH_ATTN_TYPE_ENABLED } else { sys::LLAMA_FLASH_ATTN_TYPE_DISABLED };
            set(&mut params);
            let context = sys::llama_init_from_model(model, params);
            assert!(!context.is_null(), "llama.cpp could not create a context");
            let vocab_size = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) as usize;
            Self { model, context, vocab_size }
        }
    }

    /// Appends tokens and returns the logits of the last.
    pub fn decode(&mut self, tokens: &[i32]) -> Vec<f32> {
        let mut tokens = tokens.to_vec();
        for chunk in tokens.chunks_mut(512) {
            // SAFETY: the batch lives for the call.
            let status =
                unsafe { sys::llama_decode(self.context, sys::llama_batch_get_one(chunk.as_mut_ptr(), chunk.len() as i32)) };
            assert_eq!(status, 0, "llama_decode");
        }
        // SAFETY: the last decode left logits of its last token.
        unsafe { std::slice::from_raw_parts(sys::llama_get_logits_ith(self.context, -1), self.vocab_size).to_vec() }
    }

    pub fn tokenize(&self, text: &str, parse_special: bool) -> Vec<i32> {
        let mut tokens = vec![0; text.len() + 16];
        // SAFETY: lengths are those of the buffers.
        let count = unsafe {
            let vocab = sys::llama_model_get_vocab(self.model);
            let len = tokens.len() as i32;
            sys::llama_tokenize(vocab, text.as_ptr().cast(), text.len() as i32, tokens.as_mut_ptr(), len, false, parse_special)
        };
        tokens.truncate(count.try_into().unwrap());
        tokens
    }
}

impl Drop for LlamaReference {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe {
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}
