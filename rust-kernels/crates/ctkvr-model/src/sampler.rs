//! Draws the next token: biases of single tokens and our penalties, a grammar's tokens only, then llama.cpp's samplers: top-k, typical-p,
//! top-p, min-p, temperature, seeded draw.

use std::collections::{HashMap, HashSet};

use llama_cpp_sys_2 as sys;
use llguidance::toktrie::SimpleVob;

use crate::error::{Error, Result};
use crate::grammar::Grammar;

/// Settings of one sequence's sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// 0 = the most probable token.
    pub temperature: f32,
    /// 0 = off.
    pub top_k: u32,
    /// Only tokens whose surprise is close to the expected one, of this much probability (Meister et al., arXiv 2202.00666); 1 = off.
    pub typical_p: f32,
    /// 1 = off.
    pub top_p: f32,
    /// 0 = off.
    pub min_p: f32,
    /// Divides the logits of the last `penalty_window` tokens of the sequence; 1 = off.
    pub repeat_penalty: f32,
    /// Subtracted once for each time that a token occurs in the answer; 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted when a token occurs in the answer; 0 = off.
    pub presence_penalty: f32,
    /// The last tokens of the sequence, its prompt's included, that `repeat_penalty` looks at.
    pub penalty_window: usize,
    /// Tokens of the sequence before the answer.
    pub answer_start: usize,
    pub seed: u32,
}

impl SamplerOptions {
    /// The most probable token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            typical_p: 1.0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            answer_start: 0,
            seed: 0,
        }
    }

    fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, 0.0, 1e6),
            ("typicalP", self.typical_p, 0.0, 1.0),
            ("topP", self.top_p, 0.0, 1.0),
            ("minP", self.min_p, 0.0, 1.0),
            ("repeatPenalty", self.repeat_penalty, f32::MIN_POSITIVE, 1e6),
            ("frequencyPenalty", self.frequency_penalty, -1e6, 1e6),
            ("presencePenalty", self.presence_penalty, -1e6, 1e6),
        ];
        for (option, value, min, max) in checks {
            if !(min..=max).contains(&value) {
                return Err(invalid(option, format!("a number from {min} to {max}"), value.to_string()));
            }
        }
        if i32::try_from(self.top_k).is_err() {
            return Err(invalid("topK", format!("at most {}", i32::MAX), self.top_k.to_string()));
        }
        if i32::try_from(self.penalty_window).is_err() {
            return Err(invalid("penaltyWindow", format!("at most {}", i32::MAX), self.penalty_window.to_string()));
        }
        Ok(())
    }

    fn repeats(&self) -> bool {
        self.penalty_window > 0 && self.repeat_penalty != 1.0
    }

    fn counts(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

fn invalid(option: &str, expected: String, actual: String) -> Error {
    Error::InvalidOption { option: option.into(), expected, actual }
}

/// Added to a token's logit before anything else looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenBias {
    pub token: i32,
    /// From -[`MAX_BIAS`] to [`MAX_BIAS`].
    pub bias: f32,
}

/// The OpenAI API's largest: with most models it makes a token certain, or impossible.
pub const MAX_BIAS: f32 = 100.0;

/// What one answer is bound to, beside its sampler's options. Snapshots hold none of it.
#[derive(Debug, Clone, Default)]
pub struct AnswerRules {
    /// Only tokens that go on with it are drawn.
    pub grammar: Option<Grammar>,
    pub biases: Vec<TokenBias>,
}

/// One sequence's sampler. The draw's random state goes on from token to token; penalties are taken afresh from the sequence's tokens.
#[derive(Debug)]
pub struct Sampler {
    options: SamplerOptions,
    /// Null when greedy.
    draw: *mut sys::llama_sampler,
    /// Draws since the seed.
    num_draws: u64,
    rules: AnswerRules,
    candidates: Vec<sys::llama_token_data>,
}

// SAFETY: llama.cpp's samplers hold plain data; used by one thread at a time.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Its random state starts from the seed.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        options.check()?;
        // SAFETY: the chain is owned by this value.
        let draw = if options.temperature > 0.0 { unsafe { draw_chain(&options) } } else { std::ptr::null_mut() };
        Ok(Self { options, draw, num_draws: 0, rules: AnswerRules::default(), candidates: Vec::new() })
    }

    /// Binds the answer.
    ///
    /// # Errors
    /// `InvalidOption` for a bias out of its bounds.
    pub fn with_rules(mut self, rules: AnswerRules) -> Result<Self> {
        for TokenBias { token, bias } in &rules.biases {
            if !(-MAX_BIAS..=MAX_BIAS).contains(bias) {
                return Err(invalid(
                    "logitBias",
                    format!("a number from -{MAX_BIAS} to {MAX_BIAS} for token {token}"),
                    bias.to_string(),
                ));
            }
        }
        self.rules = rules;
        Ok(self)
    }

    /// A sampler whose random state is that of one which has drawn so many tokens: each draw takes one random number, whatever the logits.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub fn resumed(options: SamplerOptions, num_draws: u64) -> Result<Self> {
        let mut sampler = Self::new(options)?;
        if !sampler.draw.is_null() {
            for _ in 0..num_draws {
                let mut one = sys::llama_token_data { id: 0, logit: 0.0, p: 0.0 };
                let mut array = sys::llama_token_data_array { data: &mut one, size: 1, selected: -1, sorted: false };
                // SAFETY: the array describes `one`; the chain is live.
                unsafe { sys::llama_sampler_apply(sampler.draw, &mut array) };
            }
            sampler.num_draws = num_draws;
        }
        Ok(sampler)
    }

    pub fn options(&self) -> SamplerOptions {
        self.options
    }

    /// Whether it takes the most probable of all tokens, the first of equal ones, whatever came before.
    pub fn is_greedy(&self) -> bool {
        self.rules.grammar.is_none() && self.takes_most_probable()
    }

    fn takes_most_probable(&self) -> bool {
        self.draw.is_null() && !self.options.repeats() && !self.options.counts() && self.rules.biases.is_empty()
    }

    /// Tokens drawn at random since the seed; 0 when greedy.
    pub fn num_draws(&self) -> u64 {
        self.num_draws
    }

    /// An equal sampler with the same random state.
    pub fn fork(&self) -> Self {
        // SAFETY: a chain that is there is live.
        let draw = if self.draw.is_null() { self.draw } else { unsafe { sys::llama_sampler_clone(self.draw) } };
        Self { options: self.options, draw, num_draws: self.num_draws, rules: self.rules.clone(), candidates: Vec::new() }
    }

    /// Draws a token. `history` is the sequence in two parts, oldest first; `logits` passed [`check_logits`].
    ///
    /// # Errors
    /// `InvalidOption` for a grammar that cannot say what comes next; nothing was drawn.
    pub fn sample(&mut self, logits: &[f32], history: &[&[i32]; 2]) -> Result<i32> {
        let Some(mut grammar) = self.rules.grammar.take() else {
            return self.choose(logits, history, None);
        };
        let token = grammar.allowed().and_then(|allowed| self.choose(logits, history, Some(allowed)));
        let accepted = token.and_then(|token| grammar.accept(token).map(|()| token));
        self.rules.grammar = Some(grammar);
        accepted
    }

    /// Chooses a token; of those allowed, where that is given.
    fn choose(&mut self, logits: &[f32], history: &[&[i32]; 2], allowed: Option<&SimpleVob>) -> Result<i32> {
        if self.takes_most_probable() {
            return Ok(allowed.map_or_else(|| most_probable(logits), |allowed| most_probable_of(logits, allowed)));
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(|(id, logit)| sys::llama_token_data {
            id: id as i32,
            logit: *logit,
            p: 0.0,
        }));
        self.bias();
        self.penalise(history);
        if let Some(allowed) = allowed {
            self.candidates.retain(|candidate| allowed.get(candidate.id as usize));
        }
        let mut array = sys::llama_token_data_array {
            data: self.candidates.as_mut_ptr(),
            size: self.candidates.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the array describes `candidates`, which samplers reorder and shorten in place.
        unsafe {
            if self.draw.is_null() {
                let mut best = 0;
                for index in 1..array.size {
                    if (*array.data.add(index)).logit > (*array.data.add(best)).logit {
                        best = index;
                    }
                }
                return Ok((*array.data.add(best)).id);
            }
            sys::llama_sampler_apply(self.draw, &mut array);
            self.num_draws += 1;
            match usize::try_from(array.selected).ok().filter(|selected| *selected < array.size) {
                Some(selected) => Ok((*array.data.add(selected)).id),
                None => Err(Error::Internal { what: "the sampler chose no token".into() }),
            }
        }
    }

    /// `candidates` are in the order of their ids. A token given twice counts twice.
    fn bias(&mut self) {
        for TokenBias { token, bias } in &self.rules.biases {
            let candidate = usize::try_from(*token).ok().and_then(|token| self.candidates.get_mut(token));
            if let Some(candidate) = candidate {
                candidate.logit += bias;
            }
        }
    }

    /// Lowers the logits of tokens that occurred, by llama.cpp's formulas; `candidates` are in the order of their ids.
    fn penalise(&mut self, history: &[&[i32]; 2]) {
        let options = self.options;
        if options.repeats() {
            let length = history[0].len() + history[1].len();
            let recent: HashSet<usize> = from(history, length.saturating_sub(options.penalty_window)).collect();
            for token in recent {
                if let Some(candidate) = self.candidates.get_mut(token) {
                    if candidate.logit <= 0.0 {
                        candidate.logit *= options.repeat_penalty;
                    } else {
                        candidate.logit /= options.repeat_penalty;
                    }
                }
            }
        }
        if options.counts() {
            let mut counts = HashMap::new();
            for token in from(history, options.answer_start) {
                *counts.entry(token).or_insert(0_u32) += 1;
            }
            for (token, count) in counts {
                if let Some(candidate) = self.candidates.get_mut(token) {
                    candidate.logit -= count as f32 * options.frequency_penalty + options.presence_penalty;
                }
            }
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if !self.draw.is_null() {
            // SAFETY: owned, freed once.
            unsafe { sys::llama_sampler_free(self.draw) };
        }
    }
}

/// The tokens of a sequence in two parts, from one place on.
fn from<'a>([old, new]: &[&'a [i32]; 2], start: usize) -> impl Iterator<Item = usize> + use<'a> {
    let (old, new) = (&old[start.min(old.len())..], &new[start.saturating_sub(old.len()).min(new.len())..]);
    old.iter().chain(new).filter_map(|token| usize::try_from(*token).ok())
}

/// Refuses NaN and +infinity, which no sampler can order.
pub fn check_logits(logits: &[f32]) -> Result<()> {
    let bad = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY);
    bad.map_or(Ok(()), |bad| Err(logits_not_finite(bad)))
}

/// The error of logits of which this token's is the first that no sampler can order.
pub fn logits_not_finite(token: usize) -> Error {
    Error::Internal {
        what: format!("the model's logits are not finite, first at token {token}: its weights are damaged or overflow"),
    }
}

unsafe fn draw_chain(options: &SamplerOptions) -> *mut sys::llama_sampler {
    // SAFETY: each sampler is fresh and given to the chain.
    unsafe {
        let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
        if options.top_k > 0 {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_top_k(options.top_k as i32));
        }
        if options.typical_p < 1.0 {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_typical(options.typical_p, 1));
        }
        if options.top_p < 1.0 {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_top_p(options.top_p, 1));
        }
        if options.min_p > 0.0 {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_min_p(options.min_p, 1));
        }
        sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_temp(options.temperature));
        sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_dist(seed_of_draw(options.seed)));
        chain
    }
}

/// A seed that llama.cpp takes as it is: its largest one means another one each time.
fn seed_of_draw(seed: u32) -> u32 {
    if seed == u32::MAX { u32::MAX / 2 } else { seed }
}

/// Ties go to the smaller id.
fn most_probable(logits: &[f32]) -> i32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as i32
}

/// As above, of the tokens allowed, which are one or more.
fn most_probable_of(logits: &[f32], allowed: &SimpleVob) -> i32 {
    let mut best: Option<usize> = None;
    allowed.iter_set_entries(|id| {
        if best.is_none_or(|best| logits[id] > logits[best]) {
            best = Some(id);
        }
    });
    best.unwrap_or(0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Vec<f32> {
        (0..50).map(|id| ((id * 37) % 50) as f32 / 10.0).collect()
    }

    #[test]
    fn a_resumed_sampler_goes_on_with_the_same_draws() {
        let settings = [
            SamplerOptions { temperature: 1.0, seed: 3, ..SamplerOptions::greedy() },
            SamplerOptions { temperature: 0.7, top_k: 1, seed: 4, ..SamplerOptions::greedy() },
            SamplerOptions {
                temperature: 1.3,
                top_k: 40,
                top_p: 0.9,
                min_p: 0.05,
                repeat_penalty: 1.1,
                ..SamplerOptions::greedy()
            },
            SamplerOptions { frequency_penalty: 0.5, ..SamplerOptions::greedy() },
        ];
        for options in settings {
            let mut sampler = Sampler::new(options).unwrap();
            let mut history = vec![1];
            let draw = |sampler: &mut Sampler, history: &[i32]| sampler.sample(&logits(), &[history, &[]]).unwrap();
            for _ in 0..20 {
                let token = draw(&mut sampler, &history);
                history.push(token);
            }
            let mut resumed = Sampler::resumed(sampler.options(), sampler.num_draws()).unwrap();
            assert_eq!(resumed.num_draws(), if options.temperature > 0.0 { 20 } else { 0 });
            for _ in 0..50 {
                let token = draw(&mut sampler, &history);
                assert_eq!(draw(&mut resumed, &history), token, "{options:?}");
                history.push(token);
            }
        }
    }

    #[test]
    fn greedy_takes_the_largest_and_the_smaller_id_of_equals() {
        let mut sampler = Sampler::new(SamplerOptions::greedy()).unwrap();
        assert_eq!(sampler.sample(&[0.0, 3.0, 3.0, 1.0], &[&[], &[]]).unwrap(), 1);
    }

    #[test]
    fn a_seed_replays_and_another_seed_differs() {
        let draw = |seed| {
            let options = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::greedy() };
            let mut sampler = Sampler::new(options).unwrap();
            (0..20).map(|_| sampler.sample(&logits(), &[&[], &[]]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(u32::MAX), draw(u32::MAX));
    }

    #[test]
    fn a_fork_goes_on_like_its_origin() {
        let options = SamplerOptions { temperature: 1.5, seed: 3, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).unwrap();
        sampler.sample(&logits(), &[&[], &[]]).unwrap();
        let mut fork = sampler.fork();
        let draws = |sampler: &mut Sampler| (0..10).map(|_| sampler.sample(&logits(), &[&[], &[]]).unwrap()).collect::<Vec<_>>();
        assert_eq!(draws(&mut sampler), draws(&mut fork));
    }

    #[test]
    fn top_k_one_is_greedy_at_any_temperature() {
        let options = SamplerOptions { temperature: 5.0, top_k: 1, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).unwrap();
        assert_eq!(sampler.sample(&logits(), &[&[], &[]]).unwrap(), most_probable(&logits()));
    }

    #[test]
    fn a_bias_moves_single_tokens_before_penalties_and_draws() {
        let logits = [3.0, 2.0, 1.0, f32::NEG_INFINITY];
        let draw = |options, biases: &[(i32, f32)], history: &[&[i32]; 2]| {
            let biases = biases.iter().map(|&(token, bias)| TokenBias { token, bias }).collect();
            let rules = AnswerRules { grammar: None, biases };
            Sampler::new(options).unwrap().with_rules(rules).unwrap().sample(&logits, history).unwrap()
        };
        let greedy = SamplerOptions::greedy();
        assert_eq!(draw(greedy, &[], &[&[], &[]]), 0);
        assert_eq!(draw(greedy, &[(0, -1.5)], &[&[], &[]]), 1);
        assert_eq!(draw(greedy, &[(2, 2.5)], &[&[], &[]]), 2);
        // Twice is the sum; a token that cannot be stays so.
        assert_eq!(draw(greedy, &[(2, 1.5), (2, 1.0)], &[&[], &[]]), 2);
        assert_eq!(draw(greedy, &[(3, 100.0)], &[&[], &[]]), 0);
        // The penalty divides what the bias left: (1 + 2.5) / 2 < 3.
        let repeats = SamplerOptions { repeat_penalty: 2.0, ..greedy };
        assert_eq!(draw(repeats, &[(2, 2.5)], &[&[2], &[]]), 0);
        let drawn = SamplerOptions { temperature: 1.0, ..greedy };
        for seed in 0..20 {
            assert_eq!(draw(SamplerOptions { seed, ..drawn }, &[(1, 100.0)], &[&[], &[]]), 1);
            assert_ne!(draw(SamplerOptions { seed, ..drawn }, &[(0, -100.0)], &[&[], &[]]), 0);
        }
        for bias in [100.5, -101.0, f32::NAN, f32::INFINITY] {
            let rules = AnswerRules { grammar: None, biases: vec![TokenBias { token: 0, bias }] };
            let refused = Sampler::new(greedy).unwrap().with_rules(rules);
            assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{bias}");
        }
    }

    #[test]
    fn typical_p_keeps_tokens_of_expected_surprise() {
        // Entropy of (.5, .25, .125, .125) is 1.75 bits: .25 (2 bits) is nearest, then .5 (1 bit); .125 (3 bits) is furthest.
        let logits = [0.5_f32.ln(), 0.25_f32.ln(), 0.125_f32.ln(), 0.125_f32.ln()];
        let drawn = |typical_p| {
            let draws = (0..200).map(|seed| {
                let options = SamplerOptions { temperature: 1.0, typical_p, seed, ..SamplerOptions::greedy() };
                Sampler::new(options).unwrap().sample(&logits, &[&[], &[]]).unwrap()
            });
            draws.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(drawn(0.2), [1]);
        assert_eq!(drawn(0.7), [0, 1]);
        assert_eq!(drawn(1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn a_repeat_penalty_looks_at_the_last_tokens_of_the_sequence_only() {
        let options = SamplerOptions { repeat_penalty: 10.0, penalty_window: 2, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options).unwrap();
        let logits = [3.0, 2.0, 1.0];
        assert_eq!(sampler.sample(&logits, &[&[], &[0]]).unwrap(), 1);
        assert_eq!(sampler.sample(&logits, &[&[0, 2], &[2]]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[&[0], &[1, 1]]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[&[2, 1, 0], &[]]).unwrap(), 2);
    }

    #[test]
    fn frequency_and_presence_count_the_answer_only_however_long_it_is() {
        let logits = [3.0, 2.0, 1.0];
        let draw =
            |options: SamplerOptions, history: &[&[i32]; 2]| Sampler::new(options).unwrap().sample(&logits, history).unwrap();
        for penalties in [
            SamplerOptions { frequency_penalty: 2.0, ..SamplerOptions::greedy() },
            SamplerOptions { presence_penalty: 2.0, ..SamplerOptions::greedy() },
        ] {
            // Of the prompt's tokens, whichever part holds them, none counts.
            let after = |answer_start| SamplerOptions { answer_start, ..penalties };
            assert_eq!(draw(after(20), &[&[0; 20], &[]]), 0);
            assert_eq!(draw(after(20), &[&[0; 19], &[0]]), 0);
            assert_eq!(draw(after(20), &[&[0; 19], &[1, 0]]), 1);
            assert_eq!(draw(after(19), &[&[0; 19], &[0]]), 1);
            // Beyond the window of the repeat penalty too.
            let far = SamplerOptions { penalty_window: 4, ..after(0) };
            assert_eq!(draw(far, &[&[0, 1, 2, 2, 2, 2, 2], &[2]]), 0);
            assert_eq!(draw(far, &[&[0, 2, 2, 2, 2, 2, 2], &[2]]), 1);
            // A sequence that was cut back further than the answer's start has no answer.
            assert_eq!(draw(after(20), &[&[0], &[]]), 0);
        }
        // Frequency counts each time, presence once: 3 - 2 * .6 < 2, 3 - .6 > 2.
        let twice: [&[i32]; 2] = [&[0, 0], &[]];
        assert_eq!(draw(SamplerOptions { frequency_penalty: 0.6, ..SamplerOptions::greedy() }, &twice), 1);
        assert_eq!(draw(SamplerOptions { presence_penalty: 0.6, ..SamplerOptions::greedy() }, &twice), 0);
    }

    #[test]
    fn refuses_what_cannot_be_drawn_from() {
        assert!(matches!(check_logits(&[f32::NAN, 1.0]), Err(Error::Internal { .. })));
        assert!(matches!(check_logits(&[0.0, f32::INFINITY]), Err(Error::Internal { .. })));
        assert!(check_logits(&[f32::NEG_INFINITY, 1.0]).is_ok());
        for options in [
            SamplerOptions { temperature: -1.0, ..SamplerOptions::greedy() },
            SamplerOptions { temperature: f32::NAN, ..SamplerOptions::greedy() },
            SamplerOptions { top_p: 1.1, ..SamplerOptions::greedy() },
            SamplerOptions { repeat_penalty: 0.0, ..SamplerOptions::greedy() },
        ] {
            assert!(matches!(Sampler::new(options), Err(Error::InvalidOption { .. })), "{options:?}");
        }
    }
}
