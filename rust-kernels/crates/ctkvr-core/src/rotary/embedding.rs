//! Rotary position embedding of rows of f32 heads, both pairings, forwards and back (RoFormer, arXiv 2104.09864). For users without a
//! model: inside the engine ggml's graph rotates. Angles are f64, because at position 100,000 an f32 angle is off by 0.004 radian.

use crate::error::{Error, Result};
use crate::rotary::scaling::RopeScaling;

/// Which dimensions turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// i with i + rotary_dim / 2.
    Half,
    /// 2i with 2i + 1.
    Adjacent,
}

/// Rotation of heads of one size with fixed frequencies.
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    head_dim: usize,
    pairing: RopePairing,
    /// Radians per position `[rotary_dim / 2]`.
    frequencies: Vec<f64>,
    magnitude: f64,
}

impl RotaryEmbedding {
    /// The first `rotary_dim` values of a head turn, the rest passes unchanged.
    pub fn new(head_dim: usize, rotary_dim: usize, pairing: RopePairing, freq_base: f64, scaling: &RopeScaling) -> Result<Self> {
        if rotary_dim > head_dim {
            let expected = format!("at most headDim = {head_dim}");
            return Err(Error::InvalidOption { option: "rotaryDim", expected, actual: rotary_dim.to_string() });
        }
        let frequencies = scaling.frequencies(rotary_dim, freq_base)?;
        Ok(Self { head_dim, pairing, frequencies, magnitude: scaling.magnitude() })
    }

    /// Radians per position `[rotary_dim / 2]`, fastest first.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// What rotated values are multiplied by.
    pub fn magnitude(&self) -> f64 {
        self.magnitude
    }

    /// Rotates `vectors`, f32 `[num_tokens, num_heads, head_dim]`, in place; back when `inverse`. `positions` `[num_tokens]`; without
    /// them 0, 1, 2, ... Nothing is changed when a value is not finite.
    pub fn rotate(&self, vectors: &mut [f32], positions: Option<&[u32]>, num_heads: usize, inverse: bool) -> Result<()> {
        const OP: &str = "RotaryEmbedding.rotate";
        if num_heads == 0 {
            return Err(Error::InvalidOption { option: "numHeads", expected: "at least 1".into(), actual: "0".into() });
        }
        let row = num_heads * self.head_dim;
        let num_tokens = positions.map_or(vectors.len() / row, <[u32]>::len);
        if vectors.len() != num_tokens * row {
            return Err(Error::ShapeMismatch { op: OP, what: "vectors", expected: num_tokens * row, actual: vectors.len() });
        }
        if let Some(index) = vectors.iter().position(|x| !x.is_finite()) {
            return Err(Error::NonFinite { op: OP, what: "vectors", index });
        }
        let (direction, magnitude) = if inverse { (-1.0, 1.0 / self.magnitude) } else { (1.0, self.magnitude) };
        let mut turns = Vec::with_capacity(self.frequencies.len());
        for (token, heads) in vectors.chunks_exact_mut(row).enumerate() {
            let position = positions.map_or(token as f64, |p| f64::from(p[token]));
            turns.clear();
            turns.extend(self.frequencies.iter().map(|f| {
                let (sin, cos) = (position * f * direction).sin_cos();
                (cos * magnitude, sin * magnitude)
            }));
            heads.chunks_exact_mut(self.head_dim).for_each(|head| self.turn_head(head, &turns));
        }
        Ok(())
    }

    /// `turns` holds cosine and sine of each pair's angle, times the magnitude.
    fn turn_head(&self, head: &mut [f32], turns: &[(f64, f64)]) {
        let half = turns.len();
        match self.pairing {
            RopePairing::Half => {
                let (first, second) = head[..2 * half].split_at_mut(half);
                for ((x, y), turn) in first.iter_mut().zip(second).zip(turns) {
                    (*x, *y) = turned(*x, *y, *turn);
                }
            }
            RopePairing::Adjacent => {
                for (pair, turn) in head.chunks_exact_mut(2).zip(turns) {
                    (pair[0], pair[1]) = turned(pair[0], pair[1], *turn);
                }
            }
        }
    }
}

fn turned(x: f32, y: f32, (cos, sin): (f64, f64)) -> (f32, f32) {
    let (x, y) = (f64::from(x), f64::from(y));
    ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(head_dim: usize, rotary_dim: usize, pairing: RopePairing) -> RotaryEmbedding {
        RotaryEmbedding::new(head_dim, rotary_dim, pairing, 1e4, &RopeScaling::None).unwrap()
    }

    #[test]
    fn a_pair_turns_by_position_times_frequency() {
        let close = |actual: &[f32], expected: [f64; 4]| {
            actual.iter().zip(expected).for_each(|(a, e)| assert!((f64::from(*a) - e).abs() < 1e-6, "{actual:?} for {expected:?}"));
        };
        let (slow, fast) = (0.03f64, 3f64);
        let mut half = [1.0, 1.0, 0.0, 0.0];
        plain(4, 4, RopePairing::Half).rotate(&mut half, Some(&[3]), 1, false).unwrap();
        close(&half, [fast.cos(), slow.cos(), fast.sin(), slow.sin()]);
        let mut adjacent = [1.0, 0.0, 1.0, 0.0];
        plain(4, 4, RopePairing::Adjacent).rotate(&mut adjacent, Some(&[3]), 1, false).unwrap();
        close(&adjacent, [fast.cos(), fast.sin(), slow.cos(), slow.sin()]);
    }

    #[test]
    fn what_lies_beyond_the_rotary_dimensions_stays() {
        let mut x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        plain(6, 4, RopePairing::Adjacent).rotate(&mut x, Some(&[9]), 1, false).unwrap();
        assert_eq!(x[4..], [5.0, 6.0]);
        assert_ne!(x[0], 1.0);
    }

    #[test]
    fn bad_input_is_refused_and_left_alone() {
        let rope = plain(4, 4, RopePairing::Half);
        let mut x = [1.0, 2.0, f32::NAN, 4.0];
        assert!(matches!(rope.rotate(&mut x, None, 1, false), Err(Error::NonFinite { index: 2, .. })));
        assert_eq!(x[..2], [1.0, 2.0]);
        assert!(matches!(rope.rotate(&mut [0.0; 6], None, 1, false), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(rope.rotate(&mut [0.0; 4], Some(&[1, 2]), 1, false), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(rope.rotate(&mut [0.0; 4], None, 0, false), Err(Error::InvalidOption { .. })));
        assert!(rope.rotate(&mut [], None, 3, false).is_ok());
        assert!(RotaryEmbedding::new(4, 6, RopePairing::Half, 1e4, &RopeScaling::None).is_err());
        assert!(RotaryEmbedding::new(5, 5, RopePairing::Half, 1e4, &RopeScaling::None).is_err());
    }

    proptest! {
        #[test]
        fn the_inverse_undoes_it_and_lengths_are_kept(
            vectors in prop::collection::vec(-8f32..8.0, 3 * 2 * 8),
            positions in prop::array::uniform3(0u32..1_000_000),
            adjacent in any::<bool>(),
        ) {
            let rope = plain(8, 8, if adjacent { RopePairing::Adjacent } else { RopePairing::Half });
            let mut there = vectors.clone();
            rope.rotate(&mut there, Some(&positions), 2, false).unwrap();
            let squares = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            // Each value is rounded once (2^-24 of at most 8 sqrt(2)); so is each on the way back.
            let unit = 8.0 * 2f64.sqrt() * 2f64.powi(-24);
            for (a, b) in there.chunks(8).zip(vectors.chunks(8)) {
                prop_assert!((squares(a).sqrt() - squares(b).sqrt()).abs() <= 8f64.sqrt() * unit);
            }
            rope.rotate(&mut there, Some(&positions), 2, true).unwrap();
            for (a, b) in there.iter().zip(&vectors) {
                prop_assert!(f64::from((a - b).abs()) <= 3.0 * unit);
            }
        }
    }
}
