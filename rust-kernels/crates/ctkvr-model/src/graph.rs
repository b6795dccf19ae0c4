//! One graph for the three families: norm, Q/K/V with optional bias, optional norm on Q and K, rotary embedding, our attention as a
//! custom node, output, gated feed-forward. Biases and norms are there when the weights are.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use ctkvr_core::{PackedKernels, activation_bytes};
use llama_cpp_sys_2 as sys;

use crate::attention_hook::{AttentionHook, LayerCall, attend};
use crate::error::{Error, Result};
use crate::ggml_context::GgmlContext;
use crate::joined_linear::{Before, FEW_ROWS, JoinedCall, JoinedMatrix, multiply_joined};
use crate::packed_linear::{LinearCall, RoundCall, multiply, round};
use crate::packed_weight::PackedShape;
use crate::rope::RopePairing;
use crate::spec::ModelSpec;
use crate::tensors::layer_tensor;
use crate::weights::{Matrix, OUTPUT_KEY, Weights};

/// Nodes and inputs a layer adds at most.
const TENSORS_PER_LAYER: usize = 48;
/// Nodes and inputs outside the layers.
const TENSORS_AROUND: usize = 32;
/// Products of activations with weights in a layer.
const LINEARS_PER_LAYER: usize = 7;
/// Nodes of a layer that join some of them.
const JOINED_PER_LAYER: usize = 4;
/// ggml's rotary modes.
const ROPE_NORM: i32 = 0;
const ROPE_NEOX: i32 = 2;
/// Run a custom node on every thread (GGML_N_TASKS_MAX).
const ALL_THREADS: i32 = -1;

/// What decides a graph's topology; graphs of equal shape are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GraphShape {
    /// Tokens that go through the layers.
    pub num_rows: usize,
    /// Rows whose logits are wanted; 0 stops after the last layer's attention.
    pub num_outputs: usize,
}

/// A graph with its buffers, ready to run any number of times.
pub(crate) struct Graph {
    shape: GraphShape,
    graph: *mut sys::ggml_cgraph,
    /// i32 `[num_rows]`.
    tokens: *mut sys::ggml_tensor,
    /// i32 `[num_rows]`.
    positions: *mut sys::ggml_tensor,
    /// i32 `[num_outputs]`, ascending; null when every row or none is an output.
    output_rows: *mut sys::ggml_tensor,
    /// f32 `[num_outputs, vocab_size]`; null without outputs.
    logits: *mut sys::ggml_tensor,
    allocator: sys::ggml_gallocr_t,
    /// User data of the attention nodes; its buffer stays where it is when the graph moves.
    _calls: Vec<LayerCall>,
    /// User data of the packed products, joined or not, and of the rounding before them, likewise.
    _linears: Vec<LinearCall>,
    _rounding: Option<Box<RoundCall>>,
    _joined: Vec<JoinedCall>,
    _context: GgmlContext,
}

// SAFETY: used by one thread at a time (the engine's run lock).
unsafe impl Send for Graph {}

impl Graph {
    /// Builds and allocates a graph. `weights` must outlive it.
    pub fn build(spec: &ModelSpec, weights: &Weights, hook: &Arc<AttentionHook>, shape: GraphShape) -> Result<Self> {
        let size = spec.num_layers * TENSORS_PER_LAYER + TENSORS_AROUND;
        let context = GgmlContext::new(size, size)?;
        let calls: Vec<_> = (0..spec.num_layers).map(|layer| LayerCall { layer, hook: Arc::clone(hook) }).collect();
        // SAFETY: the context has room for every tensor made here; weights are live and of the checked shapes.
        let (built, linears, rounding, joined) = unsafe {
            let graph = sys::ggml_new_graph_custom(context.raw(), size, false);
            let linears = Vec::with_capacity(spec.num_layers * LINEARS_PER_LAYER + 1);
            let joined_calls = Vec::with_capacity(spec.num_layers * JOINED_PER_LAYER);
            let (rounding, rounded) = (None, None);
            let mut builder =
                Builder { spec, weights, context: context.raw(), graph, hook, rounding, rounded, linears, joined_calls };
            let built = builder.build(shape, &calls);
            (built, builder.linears, builder.rounding, builder.joined_calls)
        };
        // SAFETY: the CPU buffer type always exists; failures are checked.
        let allocator = unsafe { sys::ggml_gallocr_new(sys::ggml_backend_cpu_buffer_type()) };
        let built = Self {
            shape,
            graph: built.graph,
            tokens: built.tokens,
            positions: built.positions,
            output_rows: built.output_rows,
            logits: built.logits,
            allocator,
            _calls: calls,
            _linears: linears,
            _rounding: rounding,
            _joined: joined,
            _context: context,
        };
        // SAFETY: allocator and graph are live.
        if allocator.is_null() || !unsafe { sys::ggml_gallocr_alloc_graph(allocator, built.graph) } {
            return Err(Error::OutOfMemory {
                what: format!("a graph over {} rows", shape.num_rows),
                needed: least_bytes(spec, shape),
                available: crate::machine::available_memory_bytes(),
            });
        }
        Ok(built)
    }

    pub fn shape(&self) -> GraphShape {
        self.shape
    }

    pub fn raw(&self) -> *mut sys::ggml_cgraph {
        self.graph
    }

    /// Sets the inputs of one run. Lengths must be those of the shape; `output_rows` is ignored when every row or none is an output.
    pub fn set_inputs(&mut self, tokens: &[i32], positions: &[i32], output_rows: &[i32]) {
        debug_assert_eq!((tokens.len(), positions.len(), output_rows.len()), {
            (self.shape.num_rows, self.shape.num_rows, self.shape.num_outputs)
        });
        for (tensor, values) in [(self.tokens, tokens), (self.positions, positions), (self.output_rows, output_rows)] {
            if !tensor.is_null() {
                // SAFETY: the tensor is allocated and holds exactly as many i32.
                unsafe { sys::ggml_backend_tensor_set(tensor, values.as_ptr().cast::<c_void>(), 0, size_of_val(values)) };
            }
        }
    }

    /// Logits of output `index` of the last run: f32 `[vocab_size]`.
    pub fn logits(&self, index: usize) -> &[f32] {
        if index >= self.shape.num_outputs || self.logits.is_null() {
            return &[];
        }
        // SAFETY: a CPU tensor of `[num_outputs, vocab_size]`, contiguous, flagged as output so that nothing overwrites it.
        unsafe {
            let len = (*self.logits).ne[0] as usize;
            std::slice::from_raw_parts((*self.logits).data.cast::<f32>().add(index * len), len)
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { sys::ggml_gallocr_free(self.allocator) };
    }
}

/// What a graph holds at once at least: the widest part of a layer, and the logits, f32.
fn least_bytes(spec: &ModelSpec, shape: GraphShape) -> u64 {
    let row = 2 * spec.embedding_len + 2 * spec.feed_forward_len;
    4 * (shape.num_rows as u64 * row as u64 + shape.num_outputs as u64 * spec.vocab_size as u64)
}

struct Built {
    graph: *mut sys::ggml_cgraph,
    tokens: *mut sys::ggml_tensor,
    positions: *mut sys::ggml_tensor,
    output_rows: *mut sys::ggml_tensor,
    logits: *mut sys::ggml_tensor,
}

struct Builder<'a> {
    spec: &'a ModelSpec,
    weights: &'a Weights,
    context: *mut sys::ggml_context,
    graph: *mut sys::ggml_cgraph,
    hook: &'a Arc<AttentionHook>,
    rounding: Option<Box<RoundCall>>,
    /// The last input that was rounded, and the result: several layers share one input.
    rounded: Option<(Tensor, Tensor)>,
    linears: Vec<LinearCall>,
    joined_calls: Vec<JoinedCall>,
}

type Tensor = *mut sys::ggml_tensor;

impl Builder<'_> {
    /// # Safety
    /// The context has room for the whole graph; this holds for every method below.
    unsafe fn build(&mut self, shape: GraphShape, calls: &[LayerCall]) -> Built {
        // SAFETY: see above.
        unsafe {
            let tokens = self.input(shape.num_rows);
            let positions = self.input(shape.num_rows);
            let some_rows = shape.num_outputs > 0 && shape.num_outputs < shape.num_rows;
            let output_rows = if some_rows { self.input(shape.num_outputs) } else { std::ptr::null_mut() };
            let mut hidden = sys::ggml_get_rows(self.context, self.weights.get("token_embd.weight"), tokens);
            for call in calls {
                let layer = call.layer;
                let last = layer + 1 == self.spec.num_layers;
                let mut attended = self.attention(call, hidden, positions, shape.num_rows);
                if last && shape.num_outputs == 0 {
                    // Keys and values are stored by the attention; nothing else of the last layer is needed.
                    sys::ggml_build_forward_expand(self.graph, attended);
                    return Built { graph: self.graph, tokens, positions, output_rows, logits: std::ptr::null_mut() };
                }
                if last && some_rows {
                    attended = sys::ggml_get_rows(self.context, attended, output_rows);
                    hidden = sys::ggml_get_rows(self.context, hidden, output_rows);
                }
                hidden = self.add_linear(layer, "attn_output", attended, hidden);
                let [gate, up] = self.normed_linears(layer, "ffn_norm.weight", ["ffn_gate", "ffn_up"], hidden);
                hidden = match self.joined(layer, Before::Gate, &[gate, up], &["ffn_down"], Some(hidden)) {
                    Some(added) => added,
                    None => {
                        let down = self.gated_linear(layer, "ffn_down", gate, up);
                        sys::ggml_add(self.context, down, hidden)
                    }
                };
            }
            let normed = self.norm(hidden, "output_norm.weight");
            let product = self.product(&self.weights.matrix(OUTPUT_KEY), normed);
            let logits = self.biased(product, "output.bias");
            sys::ggml_set_output(logits);
            sys::ggml_build_forward_expand(self.graph, logits);
            Built { graph: self.graph, tokens, positions, output_rows, logits }
        }
    }

    unsafe fn attention(&mut self, call: &LayerCall, hidden: Tensor, positions: Tensor, num_rows: usize) -> Tensor {
        let layer = call.layer;
        let (head_dim, q_heads, kv_heads) =
            (self.spec.head_dim as i64, self.spec.num_q_heads as i64, self.spec.num_kv_heads as i64);
        let rows = num_rows as i64;
        // SAFETY: as `build`; the graph keeps `call` alive.
        unsafe {
            let names = ["attn_q", "attn_k", "attn_v"];
            let [queries, keys, mut values] = self.normed_linears(layer, "attn_norm.weight", names, hidden);
            let mut queries = self.heads(queries, head_dim, q_heads);
            let mut keys = self.heads(keys, head_dim, kv_heads);
            if !sys::ggml_is_contiguous(values) {
                values = sys::ggml_cont(self.context, values);
            }
            if !self.weights.get(&layer_tensor(layer, "attn_q_norm.weight")).is_null() {
                queries = self.norm(queries, &layer_tensor(layer, "attn_q_norm.weight"));
                keys = self.norm(keys, &layer_tensor(layer, "attn_k_norm.weight"));
            }
            let mut sources = [self.rotate(queries, positions), self.rotate(keys, positions), values];
            let userdata = std::ptr::from_ref(call).cast_mut().cast();
            self.custom(sys::GGML_TYPE_F32, [head_dim * q_heads, rows], &mut sources, attend, userdata)
        }
    }

    unsafe fn rotate(&self, heads: Tensor, positions: Tensor) -> Tensor {
        let rope = &self.spec.rope;
        let mode = match rope.pairing {
            RopePairing::Adjacent => ROPE_NORM,
            RopePairing::Halves => ROPE_NEOX,
        };
        // SAFETY: as `build`.
        unsafe {
            sys::ggml_rope_ext(
                self.context,
                heads,
                positions,
                self.weights.get("rope_freqs.weight"),
                self.spec.head_dim as i32,
                mode,
                rope.original_context as i32,
                rope.freq_base,
                rope.freq_scale,
                rope.ext_factor,
                rope.attn_factor,
                rope.beta_fast,
                rope.beta_slow,
            )
        }
    }

    unsafe fn norm(&self, input: Tensor, weight: &str) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            let normed = sys::ggml_rms_norm(self.context, input, self.spec.rms_epsilon);
            sys::ggml_mul(self.context, normed, self.weights.get(weight))
        }
    }

    /// The heads of each row.
    unsafe fn heads(&self, rows: Tensor, head_dim: i64, num_heads: i64) -> Tensor {
        // SAFETY: as `build`; a row holds head_dim * num_heads values.
        unsafe {
            let [value, row, ..] = (*rows).nb;
            sys::ggml_view_3d(self.context, rows, head_dim, num_heads, (*rows).ne[1], value * head_dim as usize, row, 0)
        }
    }

    /// Several linear layers of the same input behind one norm.
    unsafe fn normed_linears<const N: usize>(&mut self, layer: usize, norm: &str, names: [&str; N], input: Tensor) -> [Tensor; N] {
        let norm = layer_tensor(layer, norm);
        let before = Before::Norm { epsilon: self.spec.rms_epsilon };
        // SAFETY: as `build`; the joined rows are those of the layers, one after another.
        unsafe {
            let Some(all) = self.joined(layer, before, &[input, self.weights.get(&norm)], &names, None) else {
                let normed = self.norm(input, &norm);
                return names.map(|name| self.linear(layer, name, normed));
            };
            let [value, row, ..] = (*all).nb;
            let mut columns = self.joined_calls[self.joined_calls.len() - 1].columns();
            names.map(|_| {
                let own = columns.next().unwrap_or_default();
                sys::ggml_view_2d(self.context, all, own.len() as i64, (*all).ne[1], row, value * own.start)
            })
        }
    }

    /// A linear layer plus a residual.
    unsafe fn add_linear(&mut self, layer: usize, name: &str, input: Tensor, residual: Tensor) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            self.joined(layer, Before::Nothing, &[input], &[name], Some(residual)).unwrap_or_else(|| {
                let projected = self.linear(layer, name, input);
                sys::ggml_add(self.context, projected, residual)
            })
        }
    }

    /// Linear layers as one node, `[values of all, rows]`, where there are few rows and all weights are packed. `sources`: those of `before`.
    unsafe fn joined(
        &mut self,
        layer: usize,
        before: Before,
        sources: &[Tensor],
        names: &[&str],
        residual: Option<Tensor>,
    ) -> Option<Tensor> {
        // SAFETY: as `build`; the graph keeps the call alive.
        unsafe {
            let rows = (*sources[0]).ne[1];
            if rows > FEW_ROWS as i64 {
                return None;
            }
            let (mut sources, mut matrices, mut kernels) = (sources.to_vec(), Vec::new(), None);
            for name in names {
                let matrix = self.weights.matrix(&layer_tensor(layer, &format!("{name}.weight")));
                let bias = self.weights.get(&layer_tensor(layer, &format!("{name}.bias")));
                let (its_kernels, shape) = matrix.packed?;
                kernels = Some(its_kernels);
                matrices.push(JoinedMatrix { shape, weights: (*matrix.tensor).data.cast(), has_bias: !bias.is_null() });
                sources.extend(Some(bias).filter(|bias| !bias.is_null()));
            }
            sources.extend(residual);
            // Nodes point into the list: it may not move.
            assert!(self.joined_calls.len() < self.joined_calls.capacity(), "more joined products than a model has");
            self.joined_calls.push(JoinedCall::new(kernels?, self.hook, before, matrices, residual.is_some()));
            let call = &self.joined_calls[self.joined_calls.len() - 1];
            if let Some(before) = self.joined_calls.len().checked_sub(2) {
                self.joined_calls[before].set_next(call);
            }
            let (len, userdata) = (call.row_len() as i64, std::ptr::from_ref(call).cast_mut().cast());
            Some(self.custom(sys::GGML_TYPE_F32, [len, rows], &mut sources, multiply_joined, userdata))
        }
    }

    unsafe fn linear(&mut self, layer: usize, name: &str, input: Tensor) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            let product = self.product(&self.weights.matrix(&layer_tensor(layer, &format!("{name}.weight"))), input);
            self.biased(product, &layer_tensor(layer, &format!("{name}.bias")))
        }
    }

    unsafe fn product(&mut self, matrix: &Matrix, input: Tensor) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            match matrix.packed {
                Some((kernels, shape)) => self.packed_product(kernels, shape, matrix.tensor, input),
                None => sys::ggml_mul_mat(self.context, matrix.tensor, input),
            }
        }
    }

    /// A linear layer of silu(gate) * up.
    unsafe fn gated_linear(&mut self, layer: usize, name: &str, gate: Tensor, up: Tensor) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            let matrix = self.weights.matrix(&layer_tensor(layer, &format!("{name}.weight")));
            let product = match matrix.packed {
                Some((kernels, shape)) => {
                    // By the kernel that few rows are gated with: a token's values do not depend on how many others are in its step.
                    let rounded = self.rounded(kernels, &mut [gate, up]);
                    self.multiplied(kernels, shape, matrix.tensor, rounded)
                }
                None => {
                    let gated = sys::ggml_swiglu_split(self.context, gate, up);
                    self.product(&matrix, gated)
                }
            };
            self.biased(product, &layer_tensor(layer, &format!("{name}.bias")))
        }
    }

    unsafe fn packed_product(
        &mut self,
        kernels: &'static PackedKernels,
        shape: PackedShape,
        weight: Tensor,
        input: Tensor,
    ) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            let rounded = match self.rounded {
                Some((of, rounded)) if of == input => rounded,
                _ => self.rounded(kernels, &mut [input]),
            };
            self.rounded = Some((input, rounded));
            self.multiplied(kernels, shape, weight, rounded)
        }
    }

    unsafe fn multiplied(
        &mut self,
        kernels: &'static PackedKernels,
        shape: PackedShape,
        weight: Tensor,
        rounded: Tensor,
    ) -> Tensor {
        // Nodes point into the list: it may not move.
        assert!(self.linears.len() < self.linears.capacity(), "more products than a model has");
        self.linears.push(LinearCall::new(kernels, self.hook, shape));
        let call = std::ptr::from_ref(&self.linears[self.linears.len() - 1]).cast_mut().cast();
        // SAFETY: as `build`; the graph keeps the calls alive.
        unsafe { self.custom(sys::GGML_TYPE_F32, [shape.n as i64, (*rounded).ne[1]], &mut [weight, rounded], multiply, call) }
    }

    /// `sources` as [`round`] takes them.
    unsafe fn rounded(&mut self, kernels: &'static PackedKernels, sources: &mut [Tensor]) -> Tensor {
        let call = self.rounding.get_or_insert_with(|| Box::new(RoundCall { kernels, hook: Arc::clone(self.hook) }));
        let call = std::ptr::from_mut(&mut **call).cast();
        // SAFETY: as `build`; the graph keeps the call alive.
        unsafe {
            let [k, rows, ..] = (*sources[0]).ne;
            self.custom(sys::GGML_TYPE_I8, [activation_bytes(k as usize) as i64, rows], sources, round, call)
        }
    }

    /// A node of our own, run on every thread.
    unsafe fn custom(
        &self,
        kind: sys::ggml_type,
        shape: [i64; 2],
        sources: &mut [Tensor],
        operator: unsafe extern "C" fn(Tensor, c_int, c_int, *mut c_void),
        userdata: *mut c_void,
    ) -> Tensor {
        let ([len, rows], count) = (shape, sources.len() as i32);
        // SAFETY: as `build`; ggml copies the list of sources.
        unsafe {
            sys::ggml_custom_4d(
                self.context,
                kind,
                len,
                rows,
                1,
                1,
                sources.as_mut_ptr(),
                count,
                Some(operator),
                ALL_THREADS,
                userdata,
            )
        }
    }

    unsafe fn biased(&self, product: Tensor, name: &str) -> Tensor {
        let bias = self.weights.get(name);
        if bias.is_null() {
            return product;
        }
        // SAFETY: as `build`.
        unsafe { sys::ggml_add(self.context, product, bias) }
    }

    unsafe fn input(&self, len: usize) -> Tensor {
        // SAFETY: as `build`.
        unsafe {
            let tensor = sys::ggml_new_tensor_1d(self.context, sys::GGML_TYPE_I32, len as i64);
            sys::ggml_set_input(tensor);
            tensor
        }
    }
}
