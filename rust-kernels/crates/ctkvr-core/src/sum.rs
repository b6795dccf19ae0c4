//! Sums of f32 in a fixed order that does not wait for itself.

/// Sum of some values, in eight running sums: one would wait for itself.
pub fn sum_of(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut sums = [0f32; 8];
    chunks.iter().for_each(|chunk| sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x));
    rest.iter().copied().chain(sums).sum()
}

/// Sum of products, likewise.
pub fn sum_of_products(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a.iter().zip(b) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (x, y))| *sum += x * y);
    }
    a_rest.iter().zip(b_rest).map(|(x, y)| x * y).chain(sums).sum()
}
