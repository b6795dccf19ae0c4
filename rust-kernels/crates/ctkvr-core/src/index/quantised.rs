//! Vectors stored as 8-bit codes with one scale each: what an index keeps of queries.

/// Rows of `dim` codes; value = code * scale of its row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuantisedRows {
    pub dim: usize,
    pub codes: Vec<i8>,
    pub scales: Vec<f32>,
}

impl QuantisedRows {
    pub fn zeros(num_rows: usize, dim: usize) -> Self {
        Self { dim, codes: vec![0; num_rows * dim], scales: vec![0.0; num_rows] }
    }

    /// Stores row i. scale = largest magnitude / 127; code = nearest integer, halves away from zero.
    pub fn set(&mut self, i: usize, row: &[f32]) {
        let (codes, scale) = (&mut self.codes[i * self.dim..(i + 1) * self.dim], &mut self.scales[i]);
        quantise(row, codes, scale);
    }

    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() * size_of::<f32>()
    }
}

/// See [`QuantisedRows::set`].
pub fn quantise(row: &[f32], codes: &mut [i8], scale: &mut f32) {
    let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
    *scale = largest / 127.0;
    for (code, x) in codes.iter_mut().zip(row) {
        *code = if largest == 0.0 { 0 } else { (x / *scale).round() as i8 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rows: &QuantisedRows, i: usize) -> impl Iterator<Item = f32> + '_ {
        rows.codes[i * rows.dim..(i + 1) * rows.dim].iter().map(move |&c| f32::from(c) * rows.scales[i])
    }

    #[test]
    fn rows_come_back_within_half_a_step() {
        let mut rows = QuantisedRows::zeros(2, 4);
        let x = [0.3, -1.27, 0.0051, 1.0];
        rows.set(1, &x);
        for (a, b) in row(&rows, 1).zip(x) {
            assert!((a - b).abs() <= 0.5 * rows.scales[1] * 1.0001, "{a} for {b}");
        }
        assert!(row(&rows, 0).all(|v| v == 0.0));
        rows.set(1, &[0.0; 4]);
        assert!(row(&rows, 1).all(|v| v == 0.0));
    }
}
