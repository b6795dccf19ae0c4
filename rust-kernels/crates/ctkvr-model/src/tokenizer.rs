//! A model's tokenizer: llama.cpp's, loaded from the GGUF without weights.

use std::ffi::CString;

use llama_cpp_sys_2 as sys;

use crate::backends::cpu_device;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::logs;
use crate::vocabulary_check::check_vocabulary;

/// Longer texts are tokenized on a thread of their own: some vocabularies split words with std::regex, which recurses once a character.
const LONG_TEXT_BYTES: usize = 16 << 10;
/// Reserved, not used, memory of that thread.
const LONG_TEXT_STACK_BYTES: usize = 512 << 20;

/// A token that is only interpreted in templates, never in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlToken {
    pub text: String,
    pub token_id: i32,
}

/// Text to tokens and back. Usable from several threads at once.
#[derive(Debug)]
pub struct Tokenizer {
    model: *mut sys::llama_model,
    vocab: *const sys::llama_vocab,
    vocab_size: usize,
    control_tokens: Vec<ControlToken>,
    end_of_generation: Vec<i32>,
}

// SAFETY: the vocabulary is immutable once loaded; llama.cpp's tokenizer keeps its state on the stack of the call.
unsafe impl Send for Tokenizer {}
// SAFETY: as above.
unsafe impl Sync for Tokenizer {}

impl Tokenizer {
    /// Loads the vocabulary of a checked file. `vocab_size` is the number of rows of its embedding.
    pub(crate) fn load(gguf: &Gguf, vocab_size: usize) -> Result<Self> {
        cpu_device()?;
        let unsupported = |reason: String| Error::UnsupportedModel { path: gguf.path().into(), reason };
        check_vocabulary(gguf, vocab_size).map_err(unsupported)?;
        let path = CString::new(gguf.path().as_os_str().as_encoded_bytes())
            .map_err(|_| Error::FileNotFound { path: gguf.path().into() })?;
        // SAFETY: the path is NUL-terminated; parameters are llama.cpp's defaults with vocab_only set.
        let (model, lines) = logs::capture(|| unsafe {
            let mut params = sys::llama_model_default_params();
            params.vocab_only = true;
            sys::llama_model_load_from_file(path.as_ptr(), params)
        });
        if model.is_null() {
            return Err(unsupported(format!("its vocabulary could not be loaded: {}", logs::summary(&lines))));
        }
        // SAFETY: the model is live.
        let vocab = unsafe { sys::llama_model_get_vocab(model) };
        let mut tokenizer = Self { model, vocab, vocab_size, control_tokens: Vec::new(), end_of_generation: Vec::new() };
        // SAFETY: the vocabulary is live.
        let loaded = unsafe { sys::llama_vocab_n_tokens(vocab) };
        if usize::try_from(loaded) != Ok(vocab_size) {
            return Err(unsupported(format!("its vocabulary has {loaded} tokens, its embedding {vocab_size}")));
        }
        tokenizer.read_special_tokens();
        Ok(tokenizer)
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Texts of all control tokens, longest first.
    pub fn control_tokens(&self) -> &[ControlToken] {
        &self.control_tokens
    }

    /// Every token that ends a turn, ascending.
    pub fn end_of_generation(&self) -> &[i32] {
        &self.end_of_generation
    }

    pub fn bos(&self) -> Option<i32> {
        // SAFETY: the vocabulary is live.
        self.in_range(unsafe { sys::llama_vocab_bos(self.vocab) })
    }

    pub fn eos(&self) -> Option<i32> {
        // SAFETY: the vocabulary is live.
        self.in_range(unsafe { sys::llama_vocab_eos(self.vocab) })
    }

    /// Whether a prompt begins with BOS.
    pub fn add_bos(&self) -> bool {
        // SAFETY: the vocabulary is live.
        unsafe { sys::llama_vocab_get_add_bos(self.vocab) }
    }

    /// Tokens of a text; no BOS is added. With `parse_special` false, control tokens in the text stay text.
    ///
    /// # Errors
    /// `InvalidOption` for texts of 1 GiB and more.
    pub fn tokenize(&self, text: &str, parse_special: bool) -> Result<Vec<i32>> {
        const MAX_TEXT_BYTES: usize = 1 << 30; // llama.cpp counts bytes and tokens in i32
        if text.len() >= MAX_TEXT_BYTES {
            return Err(Error::InvalidOption {
                option: "text".into(),
                expected: format!("shorter than {MAX_TEXT_BYTES} bytes"),
                actual: format!("{} bytes", text.len()),
            });
        }
        if text.len() < LONG_TEXT_BYTES {
            return self.tokenize_here(text, parse_special);
        }
        std::thread::scope(|scope| {
            let failed = || Error::Internal { what: "the tokenizer's thread could not run".into() };
            std::thread::Builder::new()
                .name("ctkvr-tokenize".into())
                .stack_size(LONG_TEXT_STACK_BYTES)
                .spawn_scoped(scope, || self.tokenize_here(text, parse_special))
                .map_err(|_| failed())?
                .join()
                .map_err(|_| failed())?
        })
    }

    /// Bytes of one token (it may end inside a character). Control tokens give their text only if `special`.
    ///
    /// # Errors
    /// `InvalidOption` for an id outside the vocabulary.
    pub fn token_bytes(&self, token_id: i32, special: bool) -> Result<Vec<u8>> {
        self.check_token(token_id)?;
        let mut bytes = vec![0u8; 64];
        loop {
            // SAFETY: the id is in range and the buffer holds `bytes.len()` bytes.
            let written = unsafe {
                sys::llama_token_to_piece(self.vocab, token_id, bytes.as_mut_ptr().cast(), bytes.len() as i32, 0, special)
            };
            match usize::try_from(written) {
                Ok(written) => {
                    bytes.truncate(written);
                    return Ok(bytes);
                }
                Err(_) => bytes.resize(written.unsigned_abs() as usize, 0),
            }
        }
    }

    /// Refuses ids outside the vocabulary.
    pub fn check_token(&self, token_id: i32) -> Result<()> {
        if self.in_range(token_id).is_some() {
            return Ok(());
        }
        Err(Error::InvalidOption {
            option: "token id".into(),
            expected: format!("from 0 to {}", self.vocab_size - 1),
            actual: token_id.to_string(),
        })
    }

    fn tokenize_here(&self, text: &str, parse_special: bool) -> Result<Vec<i32>> {
        let mut tokens = vec![0i32; text.len() + 16];
        loop {
            // SAFETY: text and buffer are live and of the lengths given, below i32::MAX.
            let count = unsafe {
                sys::llama_tokenize(
                    self.vocab,
                    text.as_ptr().cast(),
                    text.len() as i32,
                    tokens.as_mut_ptr(),
                    tokens.len() as i32,
                    false,
                    parse_special,
                )
            };
            match usize::try_from(count) {
                Ok(count) => {
                    tokens.truncate(count);
                    tokens.shrink_to_fit();
                    return Ok(tokens);
                }
                Err(_) if count == i32::MIN => {
                    return Err(Error::Internal { what: "the text makes more tokens than llama.cpp counts".into() });
                }
                Err(_) => tokens.resize(count.unsigned_abs() as usize, 0),
            }
        }
    }

    fn read_special_tokens(&mut self) {
        for token_id in 0..self.vocab_size as i32 {
            // SAFETY: the id is in range; the text is NUL-terminated and owned by the vocabulary.
            let (attributes, ends, text) = unsafe {
                (
                    sys::llama_vocab_get_attr(self.vocab, token_id),
                    sys::llama_vocab_is_eog(self.vocab, token_id),
                    std::ffi::CStr::from_ptr(sys::llama_vocab_get_text(self.vocab, token_id)),
                )
            };
            // What llama.cpp interprets with parse_special and leaves alone without.
            if attributes & (sys::LLAMA_TOKEN_ATTR_CONTROL | sys::LLAMA_TOKEN_ATTR_UNKNOWN) != 0 && !text.is_empty() {
                self.control_tokens.push(ControlToken { text: text.to_string_lossy().into_owned(), token_id });
            }
            if ends {
                self.end_of_generation.push(token_id);
            }
        }
        self.control_tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
    }

    fn in_range(&self, token_id: i32) -> Option<i32> {
        usize::try_from(token_id).is_ok_and(|id| id < self.vocab_size).then_some(token_id)
    }
}

impl Drop for Tokenizer {
    fn drop(&mut self) {
        // SAFETY: made by llama_model_load_from_file, freed once.
        unsafe { sys::llama_model_free(self.model) };
    }
}
