//! Refinement of candidates that came from elsewhere: another index, another runtime, another device. The other half of what
//! [`HeadIndex`] does with its own.

use crate::attention::decode::Layout;
use crate::error::{Error, Result};
use crate::head_index::{HeadAttention, HeadIndex, check_finite, check_len};
use crate::selector::{Candidates, HeadSelector, Proposal, Query};

/// What a step refines, and by which rules.
#[derive(Debug, Clone, Copy)]
pub struct GivenCandidates<'a> {
    /// Ascending, no repeats, within `start..end`.
    pub candidates: &'a [u32],
    /// Tokens of the sequence, from the first stored one on.
    pub num_tokens: usize,
    /// Where candidates may lie; what is before and behind is always attended.
    pub start: usize,
    pub end: usize,
    /// 0 = all.
    pub max_selected: usize,
    /// Above 0; 1 = off.
    pub top_p: f64,
    /// What stands for the keys that are no candidates.
    pub tail: Option<GivenTail<'a>>,
}

/// A tail at the query at hand.
#[derive(Debug, Clone, Copy)]
pub struct GivenTail<'a> {
    /// f32 `[group]`; -infinity where there is none.
    pub lse: &'a [f32],
    /// f32 `[group, head_dim]`.
    pub value: &'a [f32],
}

impl HeadSelector for GivenCandidates<'_> {
    fn propose(&self, _query: &Query, out: &mut Proposal) {
        out.candidates = Candidates::Listed;
        out.positions.clear();
        out.positions.extend_from_slice(self.candidates);
        if let Some(tail) = self.tail {
            out.has_rest = true;
            out.rest_lse.clear();
            out.rest_lse.extend_from_slice(tail.lse);
            out.rest_value.clear();
            out.rest_value.extend_from_slice(tail.value);
        }
    }
    fn bytes(&self) -> usize {
        size_of_val(self.candidates)
    }
}

impl HeadIndex {
    /// Positions selected among the given candidates, ascending.
    pub fn select_among(&self, query: &[f32], given: &GivenCandidates) -> Result<Vec<u32>> {
        Ok(self.decode_with(query, self.checked(given)?, Some(given))?.selected().to_vec())
    }

    /// Attention over what lies around the region, the selected candidates, and the tail for the rest.
    pub fn attend_among(&self, query: &[f32], given: &GivenCandidates) -> Result<HeadAttention> {
        Ok(self.finish(self.decode_with(query, self.checked(given)?, Some(given))?))
    }

    /// The step's layout, when all of it lies within what is stored.
    fn checked(&self, given: &GivenCandidates) -> Result<Layout> {
        let GivenCandidates { candidates, num_tokens, start, end, max_selected, top_p, tail } = *given;
        let invalid = |option, expected: String, actual: String| Err(Error::InvalidOption { option, expected, actual });
        if num_tokens == 0 || num_tokens > self.num_tokens() {
            return invalid("numTokens", format!("from 1 to the {} stored", self.num_tokens()), num_tokens.to_string());
        }
        if start > end || end > num_tokens {
            return invalid("region", format!("within 0..{num_tokens}"), format!("{start}..{end}"));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return invalid("topP", "above 0 and at most 1".into(), top_p.to_string());
        }
        let mut free = start;
        for &position in candidates {
            if (position as usize) < free || position as usize >= end {
                return invalid("candidates", format!("ascending, next in {free}..{end}"), position.to_string());
            }
            free = position as usize + 1;
        }
        if let Some(tail) = tail {
            check_len("tail lse", tail.lse.len(), self.group())?;
            check_len("tail value", tail.value.len(), self.group() * self.head_dim())?;
            check_finite("tail value", tail.value)?;
            if let Some(index) = tail.lse.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
                return Err(Error::NonFinite { op: "headIndex", what: "tail lse", index });
            }
        }
        Ok(Layout { len: num_tokens, start, end, max_selected, top_p })
    }
}
