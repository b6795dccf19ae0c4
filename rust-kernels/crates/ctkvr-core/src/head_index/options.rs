//! Settings of one head's index.

use crate::error::Result;
use crate::index::options::CtkvrOptions;
use crate::options::{BuildOptions, StepOptions};

/// What decode steps and builds share, and CTkvr's own.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HeadIndexOptions {
    pub step: StepOptions,
    pub build: BuildOptions,
    pub ctkvr: CtkvrOptions,
}

impl HeadIndexOptions {
    pub fn check(&self) -> Result<()> {
        self.step.check()?;
        self.build.check()?;
        self.ctkvr.check()
    }
}
