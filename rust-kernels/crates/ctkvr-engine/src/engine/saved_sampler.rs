//! A sequence's sampler in a saved file: the last fields of the engine's section.

use ctkvr_core::sequence::snapshot::sections::{FieldReader, FieldWriter};
use ctkvr_model::{Sampler, SamplerOptions};

use crate::Result;

/// A sampler's draws are repeated when it is restored, some millions a second: a file may not ask for hours.
const MAX_DRAWS: usize = 1 << 28;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SavedSampler {
    options: SamplerOptions,
    num_draws: u64,
}

impl SavedSampler {
    pub fn of(sampler: &Sampler) -> Self {
        Self { options: sampler.options(), num_draws: sampler.num_draws() }
    }

    pub fn resume(&self) -> Result<Sampler> {
        Sampler::resumed(self.options, self.num_draws)
    }

    pub fn write(&self, fields: &mut FieldWriter) {
        let options = self.options;
        let SamplerOptions { temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty, .. } = options;
        for number in [temperature, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty] {
            fields.f64(f64::from(number));
        }
        for number in [options.top_k as usize, options.penalty_window, options.answer_start, options.seed as usize] {
            fields.size(number);
        }
        fields.u64(self.num_draws);
        fields.f64(f64::from(options.typical_p));
    }

    /// Files of before there was a typical-p end before it.
    pub fn read(fields: &mut FieldReader) -> Result<Self> {
        let mut real = || fields.f64("sampler").map(|number| number as f32);
        let [temperature, top_p, min_p] = [real()?, real()?, real()?];
        let [repeat_penalty, frequency_penalty, presence_penalty] = [real()?, real()?, real()?];
        let mut whole = || fields.size("sampler", 0..u32::MAX as usize + 1);
        let options = SamplerOptions {
            temperature,
            typical_p: 1.0,
            top_p,
            min_p,
            repeat_penalty,
            frequency_penalty,
            presence_penalty,
            top_k: whole()? as u32,
            penalty_window: whole()?,
            answer_start: whole()?,
            seed: whole()? as u32,
        };
        let num_draws = fields.size("sampler draws", 0..MAX_DRAWS)? as u64;
        let typical_p = if fields.is_empty() { 1.0 } else { fields.f64("sampler")? as f32 };
        Ok(Self { options: SamplerOptions { typical_p, ..options }, num_draws })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No two alike.
    fn saved() -> SavedSampler {
        let options = SamplerOptions {
            temperature: 0.5,
            top_k: 40,
            typical_p: 0.25,
            top_p: 0.75,
            min_p: 0.125,
            repeat_penalty: 1.5,
            frequency_penalty: 2.0,
            presence_penalty: -1.0,
            penalty_window: 64,
            answer_start: 7,
            seed: u32::MAX,
        };
        SavedSampler { options, num_draws: 9 }
    }

    fn written() -> Vec<u8> {
        let mut fields = FieldWriter::default();
        saved().write(&mut fields);
        fields.bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written();
        let mut fields = FieldReader::new(&bytes);
        assert_eq!(SavedSampler::read(&mut fields).unwrap(), saved());
        fields.finish("engine").unwrap();
    }

    #[test]
    fn files_of_before_typical_p_are_read_as_without_it() {
        let bytes = written();
        let mut fields = FieldReader::new(&bytes[..bytes.len() - size_of::<f64>()]);
        let SavedSampler { options, num_draws } = SavedSampler::read(&mut fields).unwrap();
        assert_eq!(options, SamplerOptions { typical_p: 1.0, ..saved().options });
        assert_eq!(num_draws, 9);
    }

    #[test]
    fn a_cut_field_is_refused() {
        let bytes = written();
        for len in (0..bytes.len()).filter(|len| *len != bytes.len() - size_of::<f64>()) {
            assert!(SavedSampler::read(&mut FieldReader::new(&bytes[..len])).is_err(), "{len} bytes");
        }
    }
}
