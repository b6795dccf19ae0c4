//! Gemma 3, its text: norms before and behind attention and feed forward, a norm of each head of queries and keys, GELU, and of six layers
//! five that see a sliding window.

use ctkvr_core::LocalLayers;

use super::Family;
use crate::description::{
    Activation, AttentionSpec, Description, EmbeddingSpec, FeedForwardSpec, LayerSpec, LocalSpec, NormSpan, OutputSpec,
    QueryKeyNorms, RopePairing, RotarySpec, Sizes, linear, vector,
};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "gemma3", describe };

/// Of so many layers the last one sees everything, where the file does not say it.
const PERIOD: usize = 6;
/// Layers of the 27B, whose scores have a scale of their own.
const LAYERS_OF_27B: u64 = 62;

fn describe(sizes: &Sizes, file: &Metadata) -> Result<Description, String> {
    if file.scale("final_logit_softcapping")?.is_some() {
        return Err("it caps its logits (gemma3.final_logit_softcapping is set)".into());
    }
    let Sizes { width, head, queries, keys, hidden, vocab } = *sizes;
    let is_27b = file.unsigned("block_count") == Some(LAYERS_OF_27B);
    Ok(Description {
        embedding: EmbeddingSpec { rows: linear("token_embd", [width, vocab]), scale: (width as f32).sqrt() },
        rotary: RotarySpec::plain(RopePairing::Halves),
        local: local(file)?,
        layer: LayerSpec {
            attention: AttentionSpec {
                norm_before: Some(vector("attn_norm.weight", width)),
                query: linear("attn_q", [width, queries]),
                key: linear("attn_k", [width, keys]),
                value: linear("attn_v", [width, keys]),
                query_key_norms: Some(QueryKeyNorms {
                    span: NormSpan::Head,
                    query: vector("attn_q_norm.weight", head),
                    key: vector("attn_k_norm.weight", head),
                }),
                // llama.cpp does not read a scale from the file.
                score_scale: is_27b.then(|| 1.0 / ((width / (queries / head)) as f32).sqrt()),
                output: linear("attn_output", [queries, width]),
                norm_after: Some(vector("post_attention_norm.weight", width)),
            },
            feed_forward: FeedForwardSpec {
                norm_before: Some(vector("ffn_norm.weight", width)),
                gate: linear("ffn_gate", [width, hidden]),
                up: linear("ffn_up", [width, hidden]),
                activation: Activation::Gelu,
                down: linear("ffn_down", [hidden, width]),
                norm_after: Some(vector("post_ffw_norm.weight", width)),
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

/// Without a window every layer sees everything.
fn local(file: &Metadata) -> Result<Option<LocalSpec>, String> {
    let Some(window) = file.unsigned("attention.sliding_window").filter(|window| *window > 0) else { return Ok(None) };
    let key = "attention.sliding_window_pattern";
    let period = if file.has(key) { file.size(key, u32::MAX.into())? } else { PERIOD };
    let layers = LocalLayers { window: usize::try_from(window).unwrap_or(usize::MAX), period };
    Ok(Some(LocalSpec { layers, freq_base: file.scale("rope.freq_base_swa")?.unwrap_or(10_000.0) }))
}
