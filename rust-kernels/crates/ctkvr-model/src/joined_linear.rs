//! Linear layers over a few rows of activations as one node of ggml's graph, together with what comes before them (a norm, a gate) and
//! after them (biases, a residual). Threads meet after every node, which for one row takes longer than most of these: here every thread
//! prepares the activations for itself.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use ctkvr_core::{BLOCK, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes};
use llama_cpp_sys_2 as sys;

use crate::attention_hook::AttentionHook;
use crate::packed_linear::{Node, Turns, own_strips};
use crate::packed_weight::PackedShape;

/// Bytes of the next node's weights that a thread asks for before the threads meet: what memory answers with while they do.
const ASKED_BYTES: usize = 8 << 10;
/// Rows that each thread prepares for itself; of more, threads do better to share the work and meet.
pub(crate) const FEW_ROWS: usize = 8;

/// What comes before the products.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Before {
    /// Source: the activations.
    Nothing,
    /// Root mean square norm. Sources: the activations, the norm's weight.
    Norm { epsilon: f32 },
    /// silu(gate) * up. Sources: gate, up.
    Gate,
}

impl Before {
    fn num_sources(self) -> usize {
        if self == Self::Nothing { 1 } else { 2 }
    }
}

/// One of a node's matrices.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinedMatrix {
    pub shape: PackedShape,
    /// u8 `[num_strips, strip_bytes]`; lives as long as the graph.
    pub weights: *const u8,
    pub has_bias: bool,
}

/// User data of one node; lives as long as its graph. The node's sources: those of `before`, the biases of the matrices that have one, and
/// the residual if there is one.
pub(crate) struct JoinedCall {
    kernels: &'static PackedKernels,
    hook: Arc<AttentionHook>,
    before: Before,
    /// All over as many activations.
    matrices: Vec<JoinedMatrix>,
    has_residual: bool,
    turns: Turns,
    /// Whose weights are read next, if it is known; lives as long as this.
    next: Cell<*const JoinedCall>,
}

/// What one thread prepared; reused.
#[derive(Default)]
struct Prepared {
    row: Vec<f32>,
    /// u8 `[rows, activation_bytes(k)]`.
    rounded: Vec<u8>,
}

thread_local! {
    static PREPARED: RefCell<Prepared> = RefCell::default();
}

impl JoinedCall {
    pub fn new(
        kernels: &'static PackedKernels,
        hook: &Arc<AttentionHook>,
        before: Before,
        matrices: Vec<JoinedMatrix>,
        has_residual: bool,
    ) -> Self {
        debug_assert!(matrices.iter().all(|matrix| matrix.shape.k == matrices[0].shape.k));
        Self {
            kernels,
            hook: Arc::clone(hook),
            before,
            matrices,
            has_residual,
            turns: Turns::default(),
            next: Cell::new(std::ptr::null()),
        }
    }

    /// Says which node's weights are read after this one's.
    ///
    /// # Safety
    /// `next` lives as long as this call.
    pub unsafe fn set_next(&self, next: *const Self) {
        self.next.set(next);
    }

    /// Asks for the first of a thread's own strips.
    fn ask_for_own(&self, thread: usize, num_threads: usize) {
        let mut strip = own_strips(self.num_strips(), thread, num_threads).start;
        for JoinedMatrix { shape, weights, .. } in &self.matrices {
            if strip < shape.num_strips() {
                let offset = strip * shape.strip_bytes();
                let bytes = ASKED_BYTES.min(shape.num_strips() * shape.strip_bytes() - offset);
                // SAFETY: the bytes are the matrix's.
                unsafe { (self.kernels.prefetch)(weights.add(offset), bytes) };
                return;
            }
            strip -= shape.num_strips();
        }
    }

    /// Values of a row of the result: those of all matrices, one after another.
    pub fn row_len(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.shape.n).sum()
    }

    /// Which of them are whose.
    pub fn columns(&self) -> impl Iterator<Item = Range<usize>> {
        let mut end = 0;
        self.matrices.iter().map(move |matrix| {
            let start = end;
            end += matrix.shape.n;
            start..end
        })
    }

    fn k(&self) -> usize {
        self.matrices[0].shape.k
    }

    fn num_strips(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.shape.num_strips()).sum()
    }

    /// Rounds the activations of all rows.
    ///
    /// # Safety
    /// `node` was made for this call, and ggml has computed its sources.
    unsafe fn prepare(&self, node: Node, prepared: &mut Prepared) {
        let (k, row_bytes) = (self.k(), activation_bytes(self.k()));
        prepared.row.resize(k, 0.0);
        prepared.rounded.resize(prepared.rounded.len().max(row_bytes * node.num_rows()), 0);
        for (i, out) in prepared.rounded.chunks_exact_mut(row_bytes).take(node.num_rows()).enumerate() {
            // SAFETY: rows of k values; `row` holds as many, `out` a rounded row.
            unsafe {
                let input = |source: usize, row: usize| std::slice::from_raw_parts(node.row(source, row), k);
                let row = match self.before {
                    Before::Nothing => input(0, i),
                    Before::Norm { epsilon } => {
                        normalise(input(0, i), input(1, 0), epsilon, &mut prepared.row);
                        &prepared.row[..]
                    }
                    Before::Gate => {
                        (self.kernels.gate)(input(0, i).as_ptr(), input(1, i).as_ptr(), k, prepared.row.as_mut_ptr());
                        &prepared.row[..]
                    }
                };
                (self.kernels.round)(row.as_ptr(), k, 0, k / BLOCK, out.as_mut_ptr());
            }
        }
    }

    /// Some strips, counted over all matrices.
    ///
    /// # Safety
    /// As [`JoinedCall::prepare`], which gave `rounded`; nobody else has these strips.
    unsafe fn multiply(&self, node: Node, rounded: &[u8], strips: Range<usize>) {
        let (mut first_strip, mut first_column, mut source) = (0, 0, self.before.num_sources());
        let residual = source + self.matrices.iter().filter(|matrix| matrix.has_bias).count();
        for JoinedMatrix { shape, weights, has_bias } in &self.matrices {
            let end = first_strip + shape.num_strips();
            for strip in strips.start.max(first_strip)..strips.end.min(end) {
                let within = (strip - first_strip) * STRIP_ROWS;
                let (column, columns) = (first_column + within, STRIP_ROWS.min(shape.n - within));
                // SAFETY: the strip is the weight's; its columns are inside each row of result and residual, and of the bias.
                unsafe {
                    (self.kernels.product)(&PackedProduct {
                        format: shape.format,
                        activations: rounded.as_ptr(),
                        strip: weights.add((strip - first_strip) * shape.strip_bytes()),
                        c: node.result_row(0).add(column),
                        ldc: self.row_len(),
                        rows: node.num_rows(),
                        columns,
                        k: shape.k,
                    });
                    for row in 0..node.num_rows() {
                        let c = std::slice::from_raw_parts_mut(node.result_row(row).add(column), columns);
                        if *has_bias {
                            add(c, node.row(source, 0).add(within));
                        }
                        if self.has_residual {
                            add(c, node.row(residual, row).add(column));
                        }
                    }
                }
            }
            (first_strip, first_column, source) = (end, first_column + shape.n, source + usize::from(*has_bias));
        }
    }
}

/// c += x.
///
/// # Safety
/// `x` holds as many values as `c`.
unsafe fn add(c: &mut [f32], x: *const f32) {
    // SAFETY: the caller's.
    let x = unsafe { std::slice::from_raw_parts(x, c.len()) };
    c.iter_mut().zip(x).for_each(|(c, x)| *c += x);
}

/// x / sqrt(mean of x^2 + epsilon) * weight, rounded where ggml's `rms_norm` and `mul` round, so that a token's values do not depend on how
/// many others are in its step. (The f64 sum is made in another order; that it then rounds to another f32 is one chance in some 10^8.)
fn normalise(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    // Several sums: one would wait for itself.
    let mut sums = [0f64; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f64::from(x * x));
    }
    let sum: f64 = rest.iter().map(|x| f64::from(x * x)).chain(sums).sum();
    let scale = 1.0 / ((sum / x.len() as f64) as f32 + epsilon).sqrt();
    out.iter_mut().zip(x.iter().zip(weight)).for_each(|(out, (x, w))| *out = x * scale * w);
}

/// The custom operator: f32 `[row_len, rows]` from the sources that [`JoinedCall`] names. ggml calls it from all of its threads.
///
/// # Safety
/// `userdata` points to the live [`JoinedCall`] that the node was made for.
pub(crate) unsafe extern "C" fn multiply_joined(
    result: *mut sys::ggml_tensor,
    thread: c_int,
    num_threads: c_int,
    userdata: *mut c_void,
) {
    // SAFETY: ggml passes back the pointer given when the node was made.
    let call = unsafe { &*userdata.cast::<JoinedCall>() };
    call.hook.run(|| {
        let turns = call.turns.of(call.num_strips(), thread as usize, num_threads as usize);
        PREPARED.with_borrow_mut(|prepared| {
            // SAFETY: ggml has computed the sources; buffers are live until all threads return; strips are handed out once.
            unsafe {
                let node = Node(&*result);
                call.prepare(node, prepared);
                turns.for_each(|strips| call.multiply(node, &prepared.rounded, strips));
                // SAFETY: see `set_next`.
                if let Some(next) = call.next.get().as_ref() {
                    next.ask_for_own(thread as usize, num_threads as usize);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::ggml_context::GgmlContext;
    use crate::gguf::TensorInfo;
    use ctkvr_core::{AttentionShape, CpuAttention};

    const K: usize = 64;
    const ROWS: usize = 3;

    /// A packed matrix of random levels with n rows, from ggml's blocks of type Q8_0 or Q4_1.
    fn matrix(kind: sys::ggml_type, n: usize, random: &mut impl FnMut() -> u8) -> (PackedShape, Vec<u8>) {
        let header: &[u8] = if kind == sys::GGML_TYPE_Q8_0 { &[0x00, 0x20] } else { &[0x00, 0x28, 0x00, 0x2c] };
        let levels = if kind == sys::GGML_TYPE_Q8_0 { BLOCK } else { BLOCK / 2 };
        let block =
            |random: &mut dyn FnMut() -> u8| header.iter().copied().chain((0..levels).map(|_| random()).collect::<Vec<_>>());
        let bytes: Vec<u8> = (0..n * K / BLOCK).flat_map(|_| block(random).collect::<Vec<_>>()).collect();
        let info = TensorInfo { name: String::new(), kind, shape: [K as i64, n as i64, 1, 1], offset: 0, size_bytes: bytes.len() };
        let shape = PackedShape::of(&info).expect("a type that is packed");
        let mut packed = vec![0; shape.bytes().expect("a small matrix")];
        shape.pack(kind, &bytes, &mut packed);
        (shape, packed)
    }

    /// What the node must give, from the same kernels one matrix after another.
    fn one_by_one(kernels: &PackedKernels, prepared: &[Vec<f32>], (shape, packed): &(PackedShape, Vec<u8>)) -> Vec<Vec<f32>> {
        let product = |x: &Vec<f32>| {
            let (mut rounded, mut out) = (vec![0; activation_bytes(K)], vec![0.0; shape.n]);
            // SAFETY: all have the sizes that the kernels ask for.
            unsafe {
                (kernels.round)(x.as_ptr(), K, 0, K / BLOCK, rounded.as_mut_ptr());
                for strip in 0..shape.num_strips() {
                    (kernels.product)(&PackedProduct {
                        format: shape.format,
                        activations: rounded.as_ptr(),
                        strip: packed[strip * shape.strip_bytes()..].as_ptr(),
                        c: out[strip * STRIP_ROWS..].as_mut_ptr(),
                        ldc: shape.n,
                        rows: 1,
                        columns: STRIP_ROWS.min(shape.n - strip * STRIP_ROWS),
                        k: K,
                    });
                }
            }
            out
        };
        prepared.iter().map(product).collect()
    }

    #[test]
    fn a_node_is_what_its_parts_are_one_by_one() -> Result<()> {
        let Some(kernels) = ctkvr_core::Kernels::available().iter().find_map(|kernels| kernels.packed) else {
            eprintln!("skipped: this CPU has no products of bytes");
            return Ok(());
        };
        let shape = AttentionShape { num_layers: 1, num_q_heads: 1, num_kv_heads: 1, head_dim: 16 };
        let backend = Arc::new(CpuAttention::new(shape, 2)?);
        let hook = Arc::new(AttentionHook { backend, panicked: false.into() });
        let mut state = 7u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let matrices = [matrix(sys::GGML_TYPE_Q8_0, 40, &mut random), matrix(sys::GGML_TYPE_Q4_1, 23, &mut random)];
        let row_len = 63;
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| f32::from(random() as i8) / 32.0).collect() };
        let (mut input, mut second, mut bias, mut residual) =
            (values(ROWS * K), values(ROWS * K), values(23), values(ROWS * row_len));
        let row = |of: &[f32], i: usize| of[i * K..(i + 1) * K].to_vec();
        for before in [Before::Nothing, Before::Norm { epsilon: 1e-5 }, Before::Gate] {
            let prepared: Vec<_> = (0..ROWS)
                .map(|i| {
                    let mut out = row(&input, i);
                    match before {
                        Before::Nothing => {}
                        Before::Norm { epsilon } => normalise(&row(&input, i), &second[..K], epsilon, &mut out),
                        // SAFETY: all hold K values.
                        Before::Gate => unsafe {
                            (kernels.gate)(row(&input, i).as_ptr(), row(&second, i).as_ptr(), K, out.as_mut_ptr());
                        },
                    }
                    out
                })
                .collect();
            let parts = matrices.each_ref().map(|matrix| one_by_one(kernels, &prepared, matrix));
            let expected: Vec<f32> = (0..ROWS)
                .flat_map(|i| {
                    parts[0][i].iter().copied().chain(parts[1][i].iter().zip(&bias).map(|(x, b)| x + b)).collect::<Vec<_>>()
                })
                .zip(&residual)
                .map(|(x, r)| x + r)
                .collect();
            let joined = [(0, false), (1, true)].map(|(i, has_bias)| JoinedMatrix {
                shape: matrices[i].0,
                weights: matrices[i].1.as_ptr(),
                has_bias,
            });
            let call = JoinedCall::new(kernels, &hook, before, joined.to_vec(), true);
            let mut out = vec![f32::NAN; ROWS * row_len];
            // SAFETY: tensors over live memory of their shapes; each run ends before the next begins.
            unsafe {
                let context = GgmlContext::new(16, 0)?;
                let tensor = |data: *mut c_void, kind, len: usize, rows: usize| {
                    let tensor = sys::ggml_new_tensor_2d(context.raw(), kind, len as i64, rows as i64);
                    (*tensor).data = data;
                    tensor
                };
                let f32s =
                    |data: &mut [f32], rows: usize| tensor(data.as_mut_ptr().cast(), sys::GGML_TYPE_F32, data.len() / rows, rows);
                let mut sources = vec![f32s(&mut input, ROWS)];
                match before {
                    Before::Nothing => {}
                    Before::Norm { .. } => sources.push(f32s(&mut second[..K], 1)),
                    Before::Gate => sources.push(f32s(&mut second, ROWS)),
                }
                sources.extend([f32s(&mut bias, 1), f32s(&mut residual, ROWS)]);
                let result = f32s(&mut out, ROWS);
                (&mut (*result).src)[..sources.len()].copy_from_slice(&sources);
                let (result, call) = (result as usize, &raw const call as usize);
                for _ in 0..2 {
                    std::thread::scope(|scope| {
                        (0..2).for_each(|thread| {
                            scope.spawn(move || multiply_joined(result as *mut _, thread, 2, call as *mut _));
                        });
                    });
                }
            }
            assert_eq!(out, expected, "{before:?}");
        }
        Ok(())
    }

    #[test]
    fn norm_is_the_definition() {
        let x: Vec<f32> = (0..21).map(|i| (i as f32 - 9.0) / 4.0).collect();
        let weight: Vec<f32> = (0..21).map(|i| 1.0 + i as f32 / 8.0).collect();
        let mut out = vec![0.0; 21];
        normalise(&x, &weight, 1e-5, &mut out);
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 21.0;
        for ((x, w), out) in x.iter().zip(&weight).zip(out) {
            let exact = f64::from(*x) / (mean + f64::from(1e-5f32)).sqrt() * f64::from(*w);
            // Five roundings to f32: the mean, the root, its inverse, two products.
            assert!((f64::from(out) - exact).abs() <= 5.0 * f64::from(f32::EPSILON) * exact.abs(), "{out} for {exact}");
        }
    }
}
