//! OLMo 2: norms behind attention and feed forward instead of before them, and of all heads of queries and of keys as one.

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, NormSpan, OutputSpec, QueryKeyNorms,
    RopePairing, RotarySpec, Sizes, linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "olmo2", describe };

fn describe(sizes: &Sizes, file: &Metadata) -> Result<Description, String> {
    // OLMo 3 has the same name.
    file.refuse("attention.sliding_window", "has layers that attend to a sliding window")?;
    let Sizes { width, queries, keys, hidden, vocab, .. } = *sizes;
    Ok(Description {
        embedding: EmbeddingSpec { rows: linear("token_embd", [width, vocab]), scale: 1.0 },
        rotary: RotarySpec::plain(RopePairing::Halves),
        local: None,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: None,
                query: linear("attn_q", [width, queries]).or_with_bias(),
                key: linear("attn_k", [width, keys]).or_with_bias(),
                value: linear("attn_v", [width, keys]).or_with_bias(),
                query_key_norms: Some(QueryKeyNorms {
                    span: NormSpan::Row,
                    query: vector("attn_q_norm.weight", queries),
                    key: vector("attn_k_norm.weight", keys),
                }),
                score_scale: None,
                output: linear("attn_output", [queries, width]),
                norm_after: Some(vector("post_attention_norm.weight", width)),
            },
            feed_forward: FeedForwardSpec {
                norm_before: None,
                gate: linear("ffn_gate", [width, hidden]),
                up: linear("ffn_up", [width, hidden]),
                activation: Activation::Silu,
                down: linear("ffn_down", [hidden, width]),
                norm_after: Some(vector("post_ffw_norm.weight", width)),
            },
            residual_scale: 1.0,
        },
        output: OutputSpec {
            norm: vector("output_norm.weight", width),
            scale: 1.0,
            product: linear("output", [width, vocab]),
            may_be_tied: false,
        },
    })
}
