//! Checks a vocabulary before llama.cpp loads it: its loader aborts the process, or throws through C later, on what is refused here.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::gguf::Gguf;

/// llama.cpp's default ids of special tokens lie below this.
const MIN_TOKENS: usize = 32;
/// tokenizer.ggml.token_type of a token that stands for one byte.
const BYTE_TOKEN: i32 = 6;

/// The error is the reason why the vocabulary cannot be used. `vocab_size` is the number of rows of the embedding.
pub(crate) fn check_vocabulary(gguf: &Gguf, vocab_size: usize) -> Result<(), String> {
    let model = gguf.text("tokenizer.ggml.model").ok_or("tokenizer.ggml.model is missing")?;
    if model != "gpt2" && model != "llama" {
        return Err(format!("its tokenizer is {model:?}; those that run are gpt2 and llama"));
    }
    let tokens = gguf.texts("tokenizer.ggml.tokens").ok_or("tokenizer.ggml.tokens is missing or not a list of texts")?;
    if tokens.len() < MIN_TOKENS || tokens.len() != vocab_size {
        return Err(format!("its vocabulary has {} tokens, its embedding {vocab_size} (at least {MIN_TOKENS})", tokens.len()));
    }
    let mut seen = HashSet::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        // llama.cpp names empty tokens by their ids.
        let named = if token.is_empty() { Cow::Owned(format!("[EMPTY_{id}]").into_bytes()) } else { Cow::Borrowed(*token) };
        if !seen.insert(named) {
            return Err(format!("token {id} ({:?}) occurs twice in its vocabulary", String::from_utf8_lossy(token)));
        }
    }
    if let Some(types) = gguf.integers("tokenizer.ggml.token_type") {
        if types.len() < tokens.len() {
            return Err(format!("tokenizer.ggml.token_type has {} entries for {} tokens", types.len(), tokens.len()));
        }
        for (id, (token, kind)) in tokens.iter().zip(&types).enumerate() {
            if *kind == BYTE_TOKEN && byte_of(token).is_none() {
                return Err(format!("token {id} stands for a byte but is {:?}", String::from_utf8_lossy(token)));
            }
        }
    }
    if model == "llama" {
        for byte in 0..=u8::MAX {
            let spelled = format!("<0x{byte:02X}>");
            if !seen.contains(spelled.as_bytes()) && !seen.contains([byte].as_slice()) {
                return Err(format!("its vocabulary has no token for the byte {byte}"));
            }
        }
    }
    Ok(())
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(token: &[u8]) -> Option<u8> {
    let digits = token.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::byte_of;

    #[test]
    fn byte_tokens_are_spelled_in_hexadecimal() {
        assert_eq!(byte_of(b"<0x0A>"), Some(10));
        assert_eq!(byte_of(b"<0xff>"), Some(255));
        for other in [b"<0x>".as_slice(), b"<0x123>", b"0x0A", b"<0xZZ>", b""] {
            assert_eq!(byte_of(other), None);
        }
    }
}
