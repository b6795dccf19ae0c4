//! Phi 3, 3.5 and 4: one matrix for queries, keys and values, and one for gate and up; of long contexts, factors of rope; of Phi 4 mini,
//! heads of which a part turns. Where a file names a sliding window, every layer sees everything all the same, as llama.cpp has it.

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, OutputSpec, RopePairing, RotarySpec, Sizes,
    linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "phi3", describe };

fn describe(sizes: &Sizes, file: &Metadata) -> Result<Description, String> {
    let Sizes { width, head, queries, keys, hidden, vocab } = *sizes;
    let joined = queries + 2 * keys;
    let projection = |first, outputs| linear("attn_qkv", [width, outputs]).rows_of(first, joined).or_with_bias();
    Ok(Description {
        embedding: EmbeddingSpec { rows: linear("token_embd", [width, vocab]), scale: 1.0 },
        rotary: rotary(head, file)?,
        local: None,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: Some(vector("attn_norm.weight", width)),
                query: projection(0, queries),
                key: projection(queries, keys),
                value: projection(queries + keys, keys),
                query_key_norms: None,
                score_scale: None,
                output: linear("attn_output", [queries, width]),
                norm_after: None,
            },
            feed_forward: FeedForwardSpec {
                norm_before: Some(vector("ffn_norm.weight", width)),
                gate: linear("ffn_up", [width, hidden]).rows_of(0, 2 * hidden),
                up: linear("ffn_up", [width, hidden]).rows_of(hidden, 2 * hidden),
                activation: Activation::Silu,
                down: linear("ffn_down", [hidden, width]),
                norm_after: None,
            },
            residual_scale: 1.0,
        },
        output: OutputSpec {
            norm: vector("output_norm.weight", width),
            scale: 1.0,
            product: linear("output", [width, vocab]),
            may_be_tied: true,
        },
    })
}

/// Of two lists of factors, the model's whole context decides: llama.cpp takes the long ones as soon as a context is longer than the original
/// one, whatever is in it. Keys that are stored were turned by one of them, so that a sequence cannot change over as it grows.
fn rotary(head: usize, file: &Metadata) -> Result<RotarySpec, String> {
    let dims = file.unsigned("rope.dimension_count").map_or(head, |dims| (dims as usize).min(head));
    let [long, short] = ["rope_factors_long.weight", "rope_factors_short.weight"].map(|name| vector(name, dims / 2));
    let context = file.unsigned("context_length").unwrap_or(0);
    let is_long = file.unsigned("rope.scaling.original_context_length").is_some_and(|original| context > original);
    let (factors, other) = if is_long { (long, short) } else { (short, long) };
    let plain = RotarySpec::plain(RopePairing::Halves);
    Ok(RotarySpec { may_be_partial: true, factors: Some(factors), other_factors: Some(other), ..plain })
}
