//! How positions turn queries and keys: what a GGUF says about rotary embedding, interpreted as llama.cpp does
//! (llama-model.cpp load_hparams and llama-context.cpp, ggml_rope_ext's parameters and formulas), with angles in f64: at position 100,000
//! one in f32 is off by 0.004 radian.

use std::f64::consts::PI;

use crate::description::{RopePairing, RotarySpec};
use crate::metadata::Metadata;

/// Scaling of positions beyond the trained context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScaling {
    None,
    Linear,
    Yarn,
    /// Per-frequency factors stored as the tensor `rope_freqs.weight`.
    Llama3,
    /// The same, one list for the original context and one for longer ones.
    LongRope,
}

impl RopeScaling {
    /// As the GGUF spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Linear => "linear",
            Self::Yarn => "yarn",
            Self::Llama3 => "llama3",
            Self::LongRope => "longrope",
        }
    }
}

/// Parameters of ggml_rope_ext, resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeSettings {
    pub pairing: RopePairing,
    pub scaling: RopeScaling,
    pub freq_base: f32,
    /// 1 / scaling factor.
    pub freq_scale: f32,
    /// 1 for yarn, 0 otherwise, unless a caller says so.
    pub ext_factor: f32,
    pub attn_factor: f32,
    pub beta_fast: f32,
    pub beta_slow: f32,
    /// Context before scaling, tokens.
    pub original_context: u32,
}

/// A caller's changes to what the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RopeOverrides {
    pub freq_base: Option<f32>,
    /// 1 / factor by which the context is stretched.
    pub freq_scale: Option<f32>,
    /// `None`, `Linear` or `Yarn`, which need nothing of the file.
    pub scaling: Option<RopeScaling>,
    /// Of yarn: the context before scaling, tokens.
    pub original_context: Option<u32>,
    /// Of yarn: how much fast pairs keep their frequency; 0 = none does, 1 = all of it.
    pub ext_factor: Option<f32>,
    /// What rotated values are multiplied by, where the factor above is 0: llama.cpp computes it otherwise.
    pub attn_factor: Option<f32>,
    /// Of yarn: turns over the original context from which on a pair is fast, and below which it is slow.
    pub beta_fast: Option<f32>,
    pub beta_slow: Option<f32>,
}

impl RopeOverrides {
    /// Those that are set beside `freq_base` and `freq_scale`, each by its place.
    pub(crate) fn others(&self) -> impl Iterator<Item = (u8, u32)> {
        let numbers = [self.ext_factor, self.attn_factor, self.beta_fast, self.beta_slow].map(|number| number.map(f32::to_bits));
        let all = [self.scaling.map(|scaling| scaling as u32), self.original_context].into_iter().chain(numbers);
        (0..).zip(all).filter_map(|(place, number)| Some((place, number?)))
    }
}

impl RopeSettings {
    /// Reads the settings of a file. The error is the reason why the file cannot be run.
    pub(crate) fn read(
        file: &Metadata,
        rotary: &RotarySpec,
        trained_context: u32,
        overrides: RopeOverrides,
    ) -> Result<Self, String> {
        let gguf = file.gguf;
        let key = |name: &str| file.key(&format!("rope.{name}"));
        let has_factors = rotary.factors.is_some_and(|factors| gguf.tensor(factors.name).is_some());
        let named = overrides.scaling.map(|scaling| scaling.name().to_owned()).or_else(|| gguf.text(&key("scaling.type")));
        let factor = gguf
            .float(&key("scaling.factor"))
            .or_else(|| gguf.float(&key("scale_linear")))
            .filter(|factor| *factor != 0.0)
            .unwrap_or(1.0);
        let freq_base = overrides.freq_base.or_else(|| gguf.float(&key("freq_base"))).unwrap_or(10_000.0);
        // llama.cpp never scales when the file says "none", but does when the key is absent and the caller asks for it.
        let freq_scale = if named.as_deref() == Some("none") { 1.0 } else { overrides.freq_scale.unwrap_or(1.0 / factor) };
        let scaling = match named.as_deref() {
            None | Some("linear" | "longrope") if has_factors && rotary.other_factors.is_some() => RopeScaling::LongRope,
            None | Some("linear") if has_factors => RopeScaling::Llama3,
            None | Some("linear") if freq_scale == 1.0 => RopeScaling::None,
            None | Some("linear") => RopeScaling::Linear,
            Some("none") => RopeScaling::None,
            Some("yarn") => RopeScaling::Yarn,
            Some(other) => return Err(format!("rotary scaling {other:?} is not one of none, linear, yarn, llama3")),
        };
        let ext_factor = overrides.ext_factor.unwrap_or(if scaling == RopeScaling::Yarn { 1.0 } else { 0.0 });
        // The yarn_* keys of some files are for other architectures: llama.cpp does not read them for these, so neither do we.
        let mut attn_factor = overrides.attn_factor.unwrap_or(1.0);
        if ext_factor != 0.0 {
            let factor = 1.0 / freq_scale;
            let wanted = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
            // ggml multiplies by 1 + 0.1 ln(factor) itself: taken out here.
            attn_factor = wanted / (1.0 + 0.1 * factor.ln());
        }
        attn_factor *= gguf.float(&key("scaling.attn_factor")).unwrap_or(1.0);
        let original_context = gguf.unsigned(&key("scaling.original_context_length")).and_then(|n| u32::try_from(n).ok());
        let original_context = original_context.unwrap_or(trained_context);
        let settings = Self {
            pairing: rotary.pairing,
            scaling,
            freq_base,
            freq_scale,
            ext_factor,
            attn_factor,
            beta_fast: overrides.beta_fast.unwrap_or(32.0),
            beta_slow: overrides.beta_slow.unwrap_or(1.0),
            original_context: overrides.original_context.unwrap_or(original_context),
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("rotary frequency base", self.freq_base),
            ("rotary frequency scale", self.freq_scale),
            ("rotary attention factor", self.attn_factor),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{name} must be a positive number, got {value}"));
            }
        }
        Ok(())
    }
}

/// Cosines and sines of a model's rotary embedding.
pub struct RotaryTable {
    /// Radians per position, one for each pair of a head.
    frequencies: Vec<f64>,
    /// What rotated values are multiplied by.
    magnitude: f64,
}

impl RotaryTable {
    /// For heads of `head_dim` values; `factors` divide the frequencies.
    pub fn new(settings: &RopeSettings, head_dim: usize, factors: Option<&[f32]>) -> Self {
        let (base, scale) = (f64::from(settings.freq_base), f64::from(settings.freq_scale));
        let pairs = head_dim / 2;
        // The (fractional) pair that makes this many turns over the original context.
        let pair_of = |turns: f32| {
            let context = f64::from(settings.original_context);
            head_dim as f64 * (context / (f64::from(turns) * 2.0 * PI)).ln() / (2.0 * base.ln())
        };
        let low = pair_of(settings.beta_fast).floor().max(0.0);
        let high = pair_of(settings.beta_slow).ceil().min(head_dim as f64 - 1.0);
        let frequency = |i: usize| {
            let plain = base.powf(-2.0 * i as f64 / head_dim as f64) / factors.map_or(1.0, |factors| f64::from(factors[i]));
            // Of fast pairs yarn keeps the frequency, of slow ones it scales it.
            let ramp = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            let kept = ramp * f64::from(settings.ext_factor);
            plain * (scale * (1.0 - kept) + kept)
        };
        let longer = if settings.ext_factor == 0.0 { 1.0 } else { 1.0 + 0.1 * (1.0 / scale).ln() };
        Self { frequencies: (0..pairs).map(frequency).collect(), magnitude: f64::from(settings.attn_factor) * longer }
    }

    /// Pairs of a head.
    pub fn num_pairs(&self) -> usize {
        self.frequencies.len()
    }

    /// Cosines and sines of a position's angles, times the magnitude.
    pub fn write(&self, position: i32, cos: &mut [f32], sin: &mut [f32]) {
        for ((frequency, cos), sin) in self.frequencies.iter().zip(cos).zip(sin) {
            let (s, c) = (f64::from(position) * frequency).sin_cos();
            (*cos, *sin) = ((c * self.magnitude) as f32, (s * self.magnitude) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RopeSettings {
        RopeSettings {
            pairing: RopePairing::Halves,
            scaling: RopeScaling::None,
            freq_base: 10_000.0,
            freq_scale: 1.0,
            ext_factor: 0.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096,
        }
    }

    #[test]
    fn yarn_keeps_fast_pairs_scales_slow_ones_and_lengthens() {
        let plain = RotaryTable::new(&settings(), 64, None);
        let yarn = RotaryTable::new(&RopeSettings { freq_scale: 0.25, ext_factor: 1.0, ..settings() }, 64, None);
        assert_eq!(yarn.frequencies[0], plain.frequencies[0]);
        assert_eq!(yarn.frequencies[31], plain.frequencies[31] / 4.0);
        assert!(yarn.frequencies.iter().zip(&plain.frequencies).all(|(scaled, plain)| scaled <= plain && *scaled >= plain / 4.0));
        assert!((yarn.magnitude - (1.0 + 0.1 * 4f64.ln())).abs() < 1e-12 && plain.magnitude == 1.0);
    }

    #[test]
    fn factors_divide_and_angles_are_position_times_frequency() {
        let factors: Vec<f32> = (0..4).map(|i| 1.0 + i as f32).collect();
        let table = RotaryTable::new(&RopeSettings { freq_scale: 0.5, ..settings() }, 8, Some(&factors));
        let (mut cos, mut sin) = ([0f32; 4], [0f32; 4]);
        table.write(100_001, &mut cos, &mut sin);
        for i in 0..4 {
            let angle = 100_001.0 * 0.5 * 10_000f64.powf(-(i as f64) / 4.0) / (1.0 + i as f64);
            assert!((f64::from(cos[i]) - angle.cos()).abs() < 1e-7 && (f64::from(sin[i]) - angle.sin()).abs() < 1e-7);
        }
    }
}
