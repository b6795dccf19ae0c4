//! A model: a checked file, its shape, its tokenizer, and its weights as the file has them. Shared by engines and executors.

use std::path::Path;
use std::sync::OnceLock;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::gguf::Gguf;
use crate::grammar::{Grammar, GrammarVocabulary};
use crate::mapped_file::MappedFile;
use crate::model_info::ModelInfo;
use crate::rope::RopeOverrides;
use crate::spec::ModelSpec;
use crate::tokenizer::Tokenizer;

/// A model that executors can run.
#[derive(Debug)]
pub struct Model {
    spec: ModelSpec,
    info: ModelInfo,
    tokenizer: Tokenizer,
    gguf: Gguf,
    rope: RopeOverrides,
    fingerprint: OnceLock<Fingerprint>,
    /// Made when the first grammar is wanted.
    grammar_vocabulary: OnceLock<GrammarVocabulary>,
}

impl Model {
    /// Opens and checks a file, and reads its vocabulary. Weights stay where they are.
    ///
    /// # Errors
    /// Those of opening (`FileNotFound`, `FileUnreadable`, `NotGguf`, `CorruptGguf`), `UnsupportedModel` with the reason.
    pub fn load(path: &Path, rope: RopeOverrides) -> Result<Self> {
        let gguf = Gguf::open(path)?;
        let spec = ModelSpec::read(&gguf, rope)?;
        let tokenizer = Tokenizer::load(&gguf, spec.vocab_size)?;
        let info = ModelInfo::of(&gguf, &spec, &tokenizer);
        Ok(Self { spec, info, tokenizer, gguf, rope, fingerprint: OnceLock::new(), grammar_vocabulary: OnceLock::new() })
    }

    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The file, which lives as long as the model: [`crate::TensorInfo::offset`] counts from its start.
    pub fn file(&self) -> &MappedFile {
        self.gguf.file()
    }

    /// What tells it from other models. Computed once, from some megabytes of the file.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get_or_init(|| Fingerprint::of(&self.gguf, self.rope))
    }

    /// Compiles a grammar in llguidance's form of Lark, in which `%json {...}` is a JSON schema. Milliseconds; the first one of a model more.
    ///
    /// # Errors
    /// `InvalidOption` naming what is not supported.
    pub fn compile_grammar(&self, lark: &str) -> Result<Grammar> {
        let vocabulary = match self.grammar_vocabulary.get() {
            Some(vocabulary) => vocabulary,
            None => {
                let made = GrammarVocabulary::of(&self.tokenizer)?;
                self.grammar_vocabulary.get_or_init(|| made)
            }
        };
        vocabulary.compile(lark)
    }

    pub(crate) fn gguf(&self) -> &Gguf {
        &self.gguf
    }
}
