//! A sequence's settings: what decode steps share, what builds share, and the retrieval method.

use std::sync::Arc;

use crate::error::Result;
use crate::options::{BuildOptions, StepOptions};
use crate::retriever::Retriever;

/// Settings of one sequence.
#[derive(Debug, Clone)]
pub struct SelectorOptions {
    pub step: StepOptions,
    pub build: BuildOptions,
    pub method: Arc<dyn Retriever>,
}

impl SelectorOptions {
    /// Whether heads built with these settings serve `other`: what is chosen at decode may differ.
    pub fn same_build(&self, other: &Self) -> bool {
        let region = |o: &Self| (o.step.num_sink_tokens, o.step.recent_window);
        region(self) == region(other) && self.build == other.build && other.method.same_build(&*self.method)
    }

    /// Refuses values that the method cannot work with.
    pub fn check(&self) -> Result<()> {
        self.step.check()?;
        self.build.check()?;
        self.method.check()
    }
}
