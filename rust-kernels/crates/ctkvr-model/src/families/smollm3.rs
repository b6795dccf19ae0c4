//! SmolLM3: as Llama, but every fourth layer turns nothing.

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, OutputSpec, RopePairing, RotarySpec, Sizes,
    linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "smollm3", describe };

fn describe(sizes: &Sizes, _: &Metadata) -> Result<Description, String> {
    let Sizes { width, queries, keys, hidden, vocab, .. } = *sizes;
    Ok(Description {
        embedding: EmbeddingSpec { rows: linear("token_embd", [width, vocab]), scale: 1.0 },
        rotary: RotarySpec { unrotated_period: Some(4), ..RotarySpec::plain(RopePairing::Adjacent) },
        local: None,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: Some(vector("attn_norm.weight", width)),
                query: linear("attn_q", [width, queries]).or_with_bias(),
                key: linear("attn_k", [width, keys]).or_with_bias(),
                value: linear("attn_v", [width, keys]).or_with_bias(),
                query_key_norms: None,
                score_scale: None,
                output: linear("attn_output", [queries, width]).or_with_bias(),
                norm_after: None,
            },
            feed_forward: FeedForwardSpec {
                norm_before: Some(vector("ffn_norm.weight", width)),
                gate: linear("ffn_gate", [width, hidden]).or_with_bias(),
                up: linear("ffn_up", [width, hidden]).or_with_bias(),
                activation: Activation::Silu,
                down: linear("ffn_down", [hidden, width]).or_with_bias(),
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
