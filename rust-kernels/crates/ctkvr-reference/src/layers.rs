//! What a layer does beside attention, row by row.

use std::f32::consts::PI;

use ctkvr_model::{Activation, Matrix};

/// Rows of activations.
pub(crate) type Rows = Vec<Vec<f32>>;

/// Every row times the matrix, `[rows, num_rows of the matrix]`, plus the bias where there is one.
pub(crate) fn product(x: &Rows, matrix: &Matrix, bias: Option<&Matrix>) -> Rows {
    let mut out = vec![bias.map_or_else(|| vec![0.0; matrix.num_rows], |bias| bias.row(0)); x.len()];
    for column in 0..matrix.num_rows {
        let weights = matrix.row(column);
        for (x, out) in x.iter().zip(&mut out) {
            out[column] += dot(x, &weights);
        }
    }
    out
}

/// In eight running sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// x / sqrt(mean of x^2 + epsilon) * weight.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(epsilon)).sqrt();
    x.iter().zip(weight).map(|(x, w)| (f64::from(*x) * factor) as f32 * w).collect()
}

/// activation(gate) * up.
pub(crate) fn gated(activation: Activation, gate: &Rows, up: &Rows) -> Rows {
    let one = |gate: &f32, up: &f32| match activation {
        Activation::Silu => gate / (1.0 + (-gate).exp()) * up,
        Activation::Gelu => {
            let tanh = ((2.0 / PI).sqrt() * (gate + 0.044_715 * gate * gate * gate)).tanh();
            0.5 * gate * (1.0 + tanh) * up
        }
    };
    gate.iter().zip(up).map(|(gate, up)| gate.iter().zip(up).map(|(gate, up)| one(gate, up)).collect()).collect()
}

/// x += y.
pub(crate) fn add(x: &mut Rows, y: &Rows) {
    x.iter_mut().zip(y).for_each(|(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y));
}

/// x *= factor.
pub(crate) fn scale(x: &mut Rows, factor: f32) {
    x.iter_mut().flatten().for_each(|x| *x *= factor);
}
