//! Angular frequencies of a rotary embedding under the scalings in use, in f64. The formulas with their sources are those of
//! packages/rope-similarity/src/rope-frequencies.ts.

use std::f64::consts::PI;

use crate::error::{Error, Result};

/// How frequencies are changed for contexts longer than the model was trained on. `factor` >= 1; contexts are in positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every frequency divided by `factor`.
    Linear {
        factor: f64,
    },
    /// The base grows so that the slowest frequency is divided by `factor` and the fastest stays.
    Ntk {
        factor: f64,
    },
    /// `Ntk` with a factor that grows with the sequence beyond `original_context`.
    DynamicNtk {
        factor: f64,
        original_context: f64,
        num_tokens: f64,
    },
    /// Wavelengths above original_context / low divided by `factor`, below original_context / high kept, a blend between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: f64,
    },
    /// Blend by the number of rotations over `original_context`; rotated vectors are `attention_factor` times as long.
    Yarn {
        factor: f64,
        original_context: f64,
        beta_fast: f64,
        beta_slow: f64,
        attention_factor: f64,
        /// Whether the blend's ends are rounded outwards to whole frequencies.
        truncate: bool,
    },
}

impl RopeScaling {
    /// Radians per position `[rotary_dim / 2]`, fastest first. `rotary_dim` is even and `freq_base` > 1.
    pub fn frequencies(&self, rotary_dim: usize, freq_base: f64) -> Result<Vec<f64>> {
        if rotary_dim == 0 || !rotary_dim.is_multiple_of(2) {
            return Err(invalid("rotaryDim", "an even number above 0", rotary_dim));
        }
        check("freqBase", freq_base, "a number > 1", freq_base > 1.0)?;
        self.check()?;
        let plain = plain_frequencies(rotary_dim, freq_base);
        Ok(match *self {
            Self::None => plain,
            Self::Linear { factor } => plain.into_iter().map(|f| f / factor).collect(),
            Self::Ntk { factor } => ntk(rotary_dim, freq_base, factor),
            Self::DynamicNtk { factor, original_context, num_tokens } => {
                let grown = factor * num_tokens / original_context - (factor - 1.0);
                ntk(rotary_dim, freq_base, grown.max(1.0))
            }
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => plain
                .into_iter()
                .map(|f| {
                    let rotations = original_context * f / (2.0 * PI);
                    let kept = ((rotations - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    kept * f + (1.0 - kept) * f / factor
                })
                .collect(),
            Self::Yarn { factor, original_context, beta_fast, beta_slow, truncate, .. } => {
                let d = rotary_dim as f64;
                // The (fractional) frequency index that makes this many turns over the original context.
                let index_of = |rotations: f64| d * (original_context / (rotations * 2.0 * PI)).ln() / (2.0 * freq_base.ln());
                let (mut low, mut high) = (index_of(beta_fast), index_of(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let low = low.max(0.0);
                // 0.001 keeps the ramp defined when both ends fall on one index.
                let width = (high.min(d - 1.0) - low).max(0.001);
                let ramp = |i: usize| ((i as f64 - low) / width).clamp(0.0, 1.0);
                plain.into_iter().enumerate().map(|(i, f)| ramp(i) * (f / factor) + (1.0 - ramp(i)) * f).collect()
            }
        })
    }

    /// What rotated vectors are multiplied by: 1 but for YaRN.
    pub fn magnitude(&self) -> f64 {
        match *self {
            Self::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        }
    }

    fn check(&self) -> Result<()> {
        let at_least_1 = |option, value: f64| check(option, value, "a number >= 1", value >= 1.0);
        match *self {
            Self::None => Ok(()),
            Self::Linear { factor } | Self::Ntk { factor } => at_least_1("scaling.factor", factor),
            Self::DynamicNtk { factor, original_context, num_tokens } => {
                at_least_1("scaling.factor", factor)?;
                at_least_1("scaling.originalContext", original_context)?;
                check("scaling.numTokens", num_tokens, "a number >= 0", num_tokens >= 0.0)
            }
            Self::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_context } => {
                at_least_1("scaling.factor", factor)?;
                at_least_1("scaling.originalContext", original_context)?;
                check("scaling.lowFreqFactor", low, "a number > 0", low > 0.0)?;
                check("scaling.highFreqFactor", high, "a number > lowFreqFactor", high > low)
            }
            Self::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor, .. } => {
                at_least_1("scaling.factor", factor)?;
                at_least_1("scaling.originalContext", original_context)?;
                check("scaling.betaSlow", beta_slow, "a number > 0", beta_slow > 0.0)?;
                check("scaling.betaFast", beta_fast, "a number > betaSlow", beta_fast > beta_slow)?;
                check("scaling.attentionFactor", attention_factor, "a number > 0", attention_factor > 0.0)
            }
        }
    }
}

fn plain_frequencies(rotary_dim: usize, freq_base: f64) -> Vec<f64> {
    (0..rotary_dim / 2).map(|i| freq_base.powf(-2.0 * i as f64 / rotary_dim as f64)).collect()
}

/// The exponent divides the slowest frequency, base^(-(d-2)/d), by exactly `factor`. With one frequency that is the fastest, and stays.
fn ntk(rotary_dim: usize, freq_base: f64, factor: f64) -> Vec<f64> {
    let d = rotary_dim as f64;
    let base = if rotary_dim > 2 { freq_base * factor.powf(d / (d - 2.0)) } else { freq_base };
    plain_frequencies(rotary_dim, base)
}

fn check(option: &'static str, value: f64, expected: &str, holds: bool) -> Result<()> {
    if holds && value.is_finite() { Ok(()) } else { Err(invalid(option, expected, value)) }
}

fn invalid(option: &'static str, expected: &str, actual: impl ToString) -> Error {
    Error::InvalidOption { option, expected: expected.into(), actual: actual.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YARN: RopeScaling = RopeScaling::Yarn {
        factor: 4.0,
        original_context: 32768.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: 1.25,
        truncate: true,
    };

    #[test]
    fn a_scaling_only_slows() {
        let plain = RopeScaling::None.frequencies(128, 1e6).unwrap();
        assert_eq!(plain[0], 1.0);
        let llama3 = RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let dynamic = RopeScaling::DynamicNtk { factor: 2.0, original_context: 100.0, num_tokens: 300.0 };
        for scaling in [RopeScaling::Linear { factor: 3.0 }, RopeScaling::Ntk { factor: 8.0 }, dynamic, llama3, YARN] {
            for (scaled, f) in scaling.frequencies(128, 1e6).unwrap().iter().zip(&plain) {
                assert!(*scaled <= f * (1.0 + 1e-15) && *scaled >= f / 8.0 * (1.0 - 1e-12), "{scaling:?}: {scaled} of {f}");
            }
        }
    }

    #[test]
    fn ntk_divides_the_slowest_by_the_factor() {
        let (plain, scaled) = (RopeScaling::None, RopeScaling::Ntk { factor: 8.0 });
        let (plain, scaled) = (plain.frequencies(64, 1e4).unwrap(), scaled.frequencies(64, 1e4).unwrap());
        assert_eq!(scaled[0], 1.0);
        assert!((scaled[31] * 8.0 / plain[31] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn only_yarn_lengthens() {
        assert_eq!((RopeScaling::None.magnitude(), YARN.magnitude()), (1.0, 1.25));
    }

    #[test]
    fn bad_numbers_are_refused() {
        let reversed = RopeScaling::Llama3 { factor: 2.0, low_freq_factor: 4.0, high_freq_factor: 1.0, original_context: 10.0 };
        for (scaling, dim, base) in [
            (RopeScaling::None, 7, 1e4),
            (RopeScaling::None, 0, 1e4),
            (RopeScaling::None, 8, 1.0),
            (RopeScaling::None, 8, f64::NAN),
            (RopeScaling::Linear { factor: 0.5 }, 8, 1e4),
            (RopeScaling::Ntk { factor: f64::INFINITY }, 8, 1e4),
            (reversed, 8, 1e4),
        ] {
            let error = scaling.frequencies(dim, base).unwrap_err();
            assert!(matches!(error, Error::InvalidOption { .. }), "{error}");
        }
    }
}
