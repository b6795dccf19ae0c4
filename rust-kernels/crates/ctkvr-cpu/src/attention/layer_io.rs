//! Where a layer's queries, keys and values are while its rows are attended to.

/// One layer's rows of a step. Contiguous f32, row-major; rows are those of the batch.
#[derive(Clone, Copy)]
pub struct LayerIo<'a> {
    /// `[num_rows, num_q_heads, head_dim]`.
    pub queries: *const f32,
    /// `[num_rows, num_kv_heads, head_dim]`.
    pub keys: *const f32,
    /// `[num_rows, num_kv_heads, head_dim]`.
    pub values: *const f32,
    /// `[num_rows, num_q_heads, head_dim]`, written.
    pub out: *mut f32,
    /// Finishes queries and key of a row (the first number) and KV head, in place: norms, rotary embedding. Called once for each, before
    /// they are read.
    pub prepare: &'a (dyn Fn(usize, usize) + Sync),
}
