//! What an answer may say: a grammar's state, and the tokens that it allows next. llguidance's parser over the model's own vocabulary.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// A vocabulary as grammars read it: made once a model, some ten milliseconds for each ten thousand tokens.
pub(crate) struct GrammarVocabulary {
    factory: ParserFactory,
}

impl std::fmt::Debug for GrammarVocabulary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GrammarVocabulary").finish_non_exhaustive()
    }
}

impl GrammarVocabulary {
    /// # Errors
    /// `InvalidOption` for a model without a token that ends an answer: a grammar could never let it end.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let ends: Vec<u32> = tokenizer.end_of_generation().iter().map(|token| *token as u32).collect();
        let Some(first_end) = ends.first() else {
            return Err(invalid("left out: this model has no token that ends an answer", "a grammar".into()));
        };
        let words: Result<Vec<Vec<u8>>> = (0..tokenizer.vocab_size() as i32).map(|token| word(tokenizer, token)).collect();
        let info = TokRxInfo::new(tokenizer.vocab_size() as u32, *first_end);
        let trie = TokTrie::from(&info, &words?).with_eos_tokens(&ends);
        Self::over(&(Arc::new(ApproximateTokEnv::new(trie)) as TokEnv))
    }

    fn over(env: &TokEnv) -> Result<Self> {
        let failed = |error| Error::Internal { what: format!("the vocabulary cannot be used for grammars: {error}") };
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(env, InferenceCapabilities::default(), &slices).map_err(failed)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(Self { factory })
    }

    /// # Errors
    /// `InvalidOption` with llguidance's reason, which names the keyword of a JSON schema that it does not support.
    pub fn compile(&self, lark: &str) -> Result<Grammar> {
        let parser = self.factory.create_parser(TopLevelGrammar::from_lark(lark.into()));
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(reason) => Err(invalid("a grammar, or a JSON schema, of supported parts", reason)),
            None => Ok(Grammar { matcher, allowed: SimpleVob::new() }),
        }
    }
}

/// A grammar and how far an answer has come in it. Clones share caches, which are locked; each goes on alone.
#[derive(Clone)]
pub struct Grammar {
    matcher: Matcher,
    /// A bit for each token; of the last [`Grammar::allowed`].
    allowed: SimpleVob,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// The tokens that may come next, at least one. Tokens that end an answer are among them where the grammar may end, and stand alone where it
    /// has ended.
    ///
    /// # Errors
    /// `InvalidOption` for a grammar that takes more work than llguidance's limits for one token.
    pub fn allowed(&mut self) -> Result<&SimpleVob> {
        self.allowed = self.matcher.compute_mask_or_eos().map_err(|error| too_complex(&error.to_string()))?;
        match self.allowed.is_zero() {
            true => Err(too_complex("it allows no token")),
            false => Ok(&self.allowed),
        }
    }

    /// Takes the token that was chosen of those allowed. A token that ends the answer ends the grammar.
    ///
    /// # Errors
    /// `InvalidOption` as above.
    pub fn accept(&mut self, token: i32) -> Result<()> {
        if self.matcher.is_stopped() {
            return Ok(());
        }
        self.matcher.consume_token(token as u32).map_err(|error| too_complex(&error.to_string()))
    }
}

/// Bytes of a token in a grammar. What is no text (control tokens, ends of answers) is marked, so that no text matches it.
fn word(tokenizer: &Tokenizer, token: i32) -> Result<Vec<u8>> {
    let text = tokenizer.token_bytes(token, false)?;
    if !text.is_empty() && !tokenizer.end_of_generation().contains(&token) {
        return Ok(text);
    }
    let mut marked = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    marked.extend(tokenizer.token_bytes(token, true)?);
    Ok(marked)
}

fn invalid(expected: &str, actual: String) -> Error {
    Error::InvalidOption { option: "grammar".into(), expected: expected.into(), actual }
}

fn too_complex(reason: &str) -> Error {
    invalid("one whose next tokens can be found", format!("one where they cannot: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::{AnswerRules, Sampler, SamplerOptions};

    /// One token a byte, then six control tokens, of which the last ends an answer.
    const END: i32 = 261;

    fn compile(lark: &str) -> Result<Grammar> {
        GrammarVocabulary::over(&ApproximateTokEnv::single_byte_env()).unwrap().compile(lark)
    }

    fn bound_to(grammar: Grammar) -> AnswerRules {
        AnswerRules { grammar: Some(grammar), biases: Vec::new() }
    }

    /// The bytes of an answer of a model that likes all tokens about as much.
    fn answer(options: SamplerOptions, grammar: &Grammar) -> Vec<u8> {
        let mut sampler = Sampler::new(options).unwrap().with_rules(bound_to(grammar.clone())).unwrap();
        let logits: Vec<f32> = (0..=END).map(|token| ((token * 37) % 50) as f32 / 10.0).collect();
        let mut tokens = Vec::new();
        loop {
            let token = sampler.sample(&logits, &[&tokens, &[]]).unwrap();
            if token == END {
                return tokens.iter().map(|token| *token as u8).collect();
            }
            tokens.push(token);
            assert!(tokens.len() < 1_000, "{:?}", String::from_utf8(tokens.iter().map(|token| *token as u8).collect()));
        }
    }

    #[test]
    fn every_way_of_drawing_stays_in_the_grammar() {
        let grammar = compile("start: /[0-9]{2,4}/ (\"a\" | \"bc\")").unwrap();
        let greedy = SamplerOptions::greedy();
        let settings = [
            greedy,
            SamplerOptions { frequency_penalty: 3.0, ..greedy },
            SamplerOptions { repeat_penalty: 2.0, ..greedy },
            SamplerOptions { temperature: 1.5, ..greedy },
            SamplerOptions { temperature: 1.5, top_k: 1, ..greedy },
            SamplerOptions { temperature: 1.5, top_p: 0.5, min_p: 0.1, presence_penalty: 1.0, ..greedy },
        ];
        for options in settings {
            for seed in 0..20 {
                let text = String::from_utf8(answer(SamplerOptions { seed, ..options }, &grammar)).unwrap();
                let digits = text.trim_end_matches("bc").trim_end_matches('a');
                assert!((2..=4).contains(&digits.len()) && digits.len() < text.len(), "{text}");
                assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
            }
        }
    }

    #[test]
    fn a_json_schema_inside_is_kept_to() {
        let grammar = compile(r#"start: %json {"enum": ["one", 2, null]}"#).unwrap();
        let greedy = SamplerOptions::greedy();
        let texts = (0..30).map(|seed| answer(SamplerOptions { temperature: 5.0, seed, ..greedy }, &grammar));
        for text in texts {
            assert!([b"\"one\"".as_slice(), b"2", b"null"].contains(&text.as_slice()), "{text:?}");
        }
    }

    #[test]
    fn an_answer_ends_only_where_the_grammar_may() {
        let mut grammar = compile("start: \"ab\"").unwrap();
        for byte in *b"ab" {
            let allowed = grammar.allowed().unwrap();
            assert!(allowed.get(byte as usize) && allowed.num_set() == 1);
            grammar.accept(i32::from(byte)).unwrap();
        }
        for _ in 0..2 {
            let allowed = grammar.allowed().unwrap();
            assert!(allowed.get(END as usize) && allowed.num_set() == 1);
            grammar.accept(END).unwrap();
        }
    }

    #[test]
    fn a_bound_sampler_is_not_greedy_and_its_fork_goes_on_alone() {
        let grammar = compile("start: \"abc\"").unwrap();
        let mut sampler = Sampler::new(SamplerOptions::greedy()).unwrap().with_rules(bound_to(grammar)).unwrap();
        assert!(!sampler.is_greedy());
        let logits = vec![0.0; END as usize + 1];
        let draw = |sampler: &mut Sampler| sampler.sample(&logits, &[&[], &[]]).unwrap();
        assert_eq!(draw(&mut sampler), i32::from(b'a'));
        let mut fork = sampler.fork();
        for byte in *b"bc" {
            assert_eq!(draw(&mut fork), i32::from(byte));
        }
        assert_eq!(draw(&mut sampler), i32::from(b'b'));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (lark, part) in [
            (r#"start: %json {"type": "object", "if": {}}"#, "if"),
            (r#"start: %json {"type": "colour"}"#, "colour"),
            ("start: nowhere", "nowhere"),
            ("start: /(/", "regex"),
        ] {
            let error = compile(lark).unwrap_err();
            assert!(
                matches!(&error, Error::InvalidOption { option, actual, .. } if option == "grammar" && actual.contains(part)),
                "{error}"
            );
        }
    }
}
