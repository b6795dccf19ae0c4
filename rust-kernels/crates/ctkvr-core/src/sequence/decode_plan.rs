//! How the next decoded token of a sequence chooses what it reads, whoever computes it.

use crate::options::StepOptions;
use crate::retriever::HeadState;
use crate::search::Layout;
use crate::sequence::store::Sequence;

/// What all (layer, KV head) of one decoded token have in common.
#[derive(Debug, Clone, Copy)]
pub struct DecodePlan {
    /// Of the whole sequence; see [`DecodePlan::layout_of`].
    pub layout: Layout,
    /// Dense repair steps that the token may have, over all its heads. Counted between layers: heads of one layer see the same count.
    pub repair_budget: usize,
    /// The (layer, KV head) that the token audits, of a sequence that samples: `layer * num_kv_heads + kv_head`.
    pub sampled_head: Option<usize>,
}

impl DecodePlan {
    /// Of a head of a layer with this window ([`crate::AttentionShape::window`]) that has this indexed: its own region may end later than
    /// the sequence's. What a local layer does not see is a region of which nothing is proposed.
    pub fn layout_of(&self, window: Option<usize>, state: Option<&HeadState>) -> Layout {
        match window {
            Some(window) => Layout::local(self.layout.len, window),
            None => Layout { end: state.map_or(self.layout.end, |state| state.end), ..self.layout },
        }
    }
}

impl Sequence {
    /// For a token decoded behind the last one.
    pub fn decode_plan(&self) -> DecodePlan {
        let (len, num_heads) = (self.len + 1, self.shape.num_indexed_heads());
        let StepOptions { dense_below, max_selected, top_p, mass_sampling, .. } = self.selector.step;
        let method = &self.selector.method;
        let region = match &self.index {
            Some(index) if !method.is_dense() && len >= dense_below => index.start..index.end(),
            _ => 0..0,
        };
        DecodePlan {
            layout: Layout { len, start: region.start, end: region.end, max_selected, top_p },
            repair_budget: repair_budget(method.repair_share() * num_heads as f64, self.len),
            // In turn by position: no state to keep, roll back or fork. A dense step has nothing to estimate.
            sampled_head: (mass_sampling && !region.is_empty()).then(|| self.shape.head_of_indexed(len % num_heads)),
        }
    }

    /// What the token finds indexed of a (layer, KV head); `None` where everything that the layer sees
    /// is read.
    pub fn indexed_head(&self, plan: &DecodePlan, head: usize) -> Option<&HeadState> {
        let index = self.index.as_ref().filter(|_| plan.layout.start < plan.layout.end)?;
        Some(&index.heads[self.shape.indexed_head(head)?])
    }
}

/// Dense steps that a token at `position` may have when it is to be `per_token` of them in the long run.
fn repair_budget(per_token: f64, position: usize) -> usize {
    let until = |n: usize| (n as f64 * per_token).floor() as usize;
    until(position + 1) - until(position)
}
