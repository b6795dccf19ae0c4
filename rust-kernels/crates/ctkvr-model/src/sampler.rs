//! Draws the next token with llama.cpp's samplers: penalties, top-k, top-p, min-p, temperature, seeded draw.

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};

/// Settings of one sequence's sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// 0 = the most probable token.
    pub temperature: f32,
    /// 0 = off.
    pub top_k: u32,
    /// 1 = off.
    pub top_p: f32,
    /// 0 = off.
    pub min_p: f32,
    /// 1 = off.
    pub repeat_penalty: f32,
    /// 0 = off.
    pub frequency_penalty: f32,
    /// 0 = off.
    pub presence_penalty: f32,
    /// The last tokens of the sequence that penalties look at.
    pub penalty_window: usize,
    pub seed: u32,
}

impl SamplerOptions {
    /// The most probable token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            seed: 0,
        }
    }

    fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, 0.0, 1e6),
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

    fn has_penalties(&self) -> bool {
        self.penalty_window > 0 && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

fn invalid(option: &str, expected: String, actual: String) -> Error {
    Error::InvalidOption { option: option.into(), expected, actual }
}

/// One sequence's sampler. The draw's random state goes on from token to token; penalties are taken afresh from the sequence's tokens.
#[derive(Debug)]
pub(crate) struct Sampler {
    options: SamplerOptions,
    /// Null when no penalty is on.
    penalties: *mut sys::llama_sampler,
    /// Null when greedy.
    draw: *mut sys::llama_sampler,
    candidates: Vec<sys::llama_token_data>,
}

// SAFETY: llama.cpp's samplers hold plain data; used by one thread at a time.
unsafe impl Send for Sampler {}

impl Sampler {
    pub fn new(options: SamplerOptions, vocab_size: usize) -> Result<Self> {
        options.check()?;
        // SAFETY: samplers are owned by the chain they are added to, the chain and the penalties by this value.
        unsafe {
            let penalties = if options.has_penalties() {
                sys::llama_sampler_init_penalties(
                    vocab_size as i32,
                    options.penalty_window as i32,
                    options.repeat_penalty,
                    options.frequency_penalty,
                    options.presence_penalty,
                )
            } else {
                std::ptr::null_mut()
            };
            let draw = if options.temperature > 0.0 { draw_chain(&options) } else { std::ptr::null_mut() };
            Ok(Self { options, penalties, draw, candidates: Vec::new() })
        }
    }

    /// An equal sampler with the same random state.
    pub fn fork(&self) -> Self {
        let clone = |sampler: *mut sys::llama_sampler| {
            if sampler.is_null() {
                return sampler;
            }
            // SAFETY: the sampler is live.
            unsafe { sys::llama_sampler_clone(sampler) }
        };
        Self { options: self.options, penalties: clone(self.penalties), draw: clone(self.draw), candidates: Vec::new() }
    }

    /// Draws a token. `history` is the sequence in two parts, oldest first; `logits` passed [`check_logits`].
    pub fn sample(&mut self, logits: &[f32], history: &[&[i32]; 2]) -> Result<i32> {
        if self.penalties.is_null() && self.draw.is_null() {
            return Ok(most_probable(logits));
        }
        self.candidates.clear();
        self.candidates.extend(logits.iter().enumerate().map(|(id, logit)| sys::llama_token_data {
            id: id as i32,
            logit: *logit,
            p: 0.0,
        }));
        let mut array = sys::llama_token_data_array {
            data: self.candidates.as_mut_ptr(),
            size: self.candidates.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the array describes `candidates`, which samplers reorder and shorten in place.
        unsafe {
            if !self.penalties.is_null() {
                sys::llama_sampler_reset(self.penalties);
                let [old, new] = history;
                let skipped = (old.len() + new.len()).saturating_sub(self.options.penalty_window);
                let from_old = &old[skipped.min(old.len())..];
                for token in from_old.iter().chain(&new[skipped.saturating_sub(old.len())..]) {
                    sys::llama_sampler_accept(self.penalties, *token);
                }
                sys::llama_sampler_apply(self.penalties, &mut array);
            }
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
            match usize::try_from(array.selected).ok().filter(|selected| *selected < array.size) {
                Some(selected) => Ok((*array.data.add(selected)).id),
                None => Err(Error::Internal { what: "the sampler chose no token".into() }),
            }
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        for sampler in [self.penalties, self.draw] {
            if !sampler.is_null() {
                // SAFETY: owned, freed once.
                unsafe { sys::llama_sampler_free(sampler) };
            }
        }
    }
}

/// Refuses NaN and +infinity, which no sampler can order.
pub(crate) fn check_logits(logits: &[f32]) -> Result<()> {
    match logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        None => Ok(()),
        Some(bad) => Err(Error::Internal {
            what: format!("the model's logits are not finite, first at token {bad}: its weights are damaged or overflow"),
        }),
    }
}

unsafe fn draw_chain(options: &SamplerOptions) -> *mut sys::llama_sampler {
    // SAFETY: each sampler is fresh and given to the chain.
    unsafe {
        let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
        if options.top_k > 0 {
            sys::llama_sampler_chain_add(chain, sys::llama_sampler_init_top_k(options.top_k as i32));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Vec<f32> {
        (0..50).map(|id| ((id * 37) % 50) as f32 / 10.0).collect()
    }

    #[test]
    fn greedy_takes_the_largest_and_the_smaller_id_of_equals() {
        let mut sampler = Sampler::new(SamplerOptions::greedy(), 4).unwrap();
        assert_eq!(sampler.sample(&[0.0, 3.0, 3.0, 1.0], &[&[], &[]]).unwrap(), 1);
    }

    #[test]
    fn a_seed_replays_and_another_seed_differs() {
        let draw = |seed| {
            let options = SamplerOptions { temperature: 1.5, seed, ..SamplerOptions::greedy() };
            let mut sampler = Sampler::new(options, 50).unwrap();
            (0..20).map(|_| sampler.sample(&logits(), &[&[], &[]]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(u32::MAX), draw(u32::MAX));
    }

    #[test]
    fn a_fork_goes_on_like_its_origin() {
        let options = SamplerOptions { temperature: 1.5, seed: 3, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options, 50).unwrap();
        sampler.sample(&logits(), &[&[], &[]]).unwrap();
        let mut fork = sampler.fork();
        let draws = |sampler: &mut Sampler| (0..10).map(|_| sampler.sample(&logits(), &[&[], &[]]).unwrap()).collect::<Vec<_>>();
        assert_eq!(draws(&mut sampler), draws(&mut fork));
    }

    #[test]
    fn top_k_one_is_greedy_at_any_temperature() {
        let options = SamplerOptions { temperature: 5.0, top_k: 1, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options, 50).unwrap();
        assert_eq!(sampler.sample(&logits(), &[&[], &[]]).unwrap(), most_probable(&logits()));
    }

    #[test]
    fn penalties_look_at_the_last_tokens_of_the_sequence_only() {
        let options = SamplerOptions { presence_penalty: 10.0, penalty_window: 2, ..SamplerOptions::greedy() };
        let mut sampler = Sampler::new(options, 3).unwrap();
        let logits = [3.0, 2.0, 1.0];
        assert_eq!(sampler.sample(&logits, &[&[], &[0]]).unwrap(), 1);
        assert_eq!(sampler.sample(&logits, &[&[0, 2], &[2]]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[&[0], &[1, 1]]).unwrap(), 0);
        assert_eq!(sampler.sample(&logits, &[&[2, 1, 0], &[]]).unwrap(), 2);
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
            assert!(matches!(Sampler::new(options, 2), Err(Error::InvalidOption { .. })), "{options:?}");
        }
    }
}
