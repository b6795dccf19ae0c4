//! Granite 3 and dense 4: as Llama, with factors at four places.

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, OutputSpec, RopePairing, RotarySpec, Sizes,
    linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "granite", describe };

fn describe(sizes: &Sizes, file: &Metadata) -> Result<Description, String> {
    if file.flag("rope.scaling.finetuned") == Some(false) {
        return Err("it has no rotary embedding".into());
    }
    if file.has("deepstack_mapping") {
        return Err("it takes images between its layers".into());
    }
    let logit_scale = file.scale("logit_scale")?.ok_or("granite.logit_scale is missing or 0")?;
    let Sizes { width, head, queries, keys, hidden, vocab } = *sizes;
    Ok(Description {
        embedding: EmbeddingSpec {
            rows: linear("token_embd", [width, vocab]),
            scale: file.scale("embedding_scale")?.unwrap_or(1.0),
        },
        rotary: RotarySpec::plain(RopePairing::Adjacent).with_factors(vector("rope_freqs.weight", head / 2)),
        local: None,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: Some(vector("attn_norm.weight", width)),
                query: linear("attn_q", [width, queries]).or_with_bias(),
                key: linear("attn_k", [width, keys]).or_with_bias(),
                value: linear("attn_v", [width, keys]).or_with_bias(),
                query_key_norms: None,
                score_scale: file.scale("attention.scale")?,
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
            residual_scale: file.scale("residual_scale")?.unwrap_or(1.0),
        },
        output: OutputSpec {
            norm: vector("output_norm.weight", width),
            // Logits are divided by it. The output has no bias, so the rows may be divided instead.
            scale: 1.0 / logit_scale,
            product: linear("output", [width, vocab]),
            may_be_tied: true,
        },
    })
}
