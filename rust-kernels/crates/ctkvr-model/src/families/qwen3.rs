//! Qwen 3: a norm of each head of queries and keys.

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, NormSpan, OutputSpec, QueryKeyNorms,
    RopePairing, RotarySpec, Sizes, linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "qwen3", describe };

fn describe(sizes: &Sizes, _: &Metadata) -> Result<Description, String> {
    let Sizes { width, head, queries, keys, hidden, vocab } = *sizes;
    Ok(Description {
        embedding: EmbeddingSpec { rows: linear("token_embd", [width, vocab]), scale: 1.0 },
        rotary: RotarySpec::plain(RopePairing::Halves),
        local: None,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: Some(vector("attn_norm.weight", width)),
                query: linear("attn_q", [width, queries]).or_with_bias(),
                key: linear("attn_k", [width, keys]).or_with_bias(),
                value: linear("attn_v", [width, keys]).or_with_bias(),
                query_key_norms: Some(QueryKeyNorms {
                    span: NormSpan::Head,
                    query: vector("attn_q_norm.weight", head),
                    key: vector("attn_k_norm.weight", head),
                }),
                score_scale: None,
                output: linear("attn_output", [queries, width]).or_with_bias(),
                norm_after: None,
            },
            feed_forward: FeedForwardSpec {
                norm_before: Some(vector("ffn_norm.weight", width)),
                gate: linear("ffn_gate", [width, hidden]),
                up: linear("ffn_up", [width, hidden]),
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
