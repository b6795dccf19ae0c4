//! Settings that every retrieval method shares. Defaults and presets live in TypeScript (packages/core); here values arrive resolved and
//! are only checked. A method's own settings are its own type.

use crate::error::{Error, Result};

/// Least and most queries that a build gets where their number goes by the region.
const QUERIES_BY_REGION: (usize, usize) = (128, 384);

/// What every method's decode steps share. Field meanings: packages/core/src/selector-options.ts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    pub num_sink_tokens: usize,
    pub recent_window: usize,
    /// Positions of the region whose values are read; 0 = all candidates.
    pub max_selected: usize,
    /// Share of the candidates' weight that is enough, above 0; 1 = all of it, up to `max_selected`.
    pub top_p: f64,
    /// Fewer tokens than this, and everything is read.
    pub dense_below: usize,
    /// Whether each decode step audits one (layer, KV head), in turn.
    pub mass_sampling: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self { num_sink_tokens: 16, recent_window: 256, max_selected: 512, top_p: 1.0, dense_below: 0, mass_sampling: false }
    }
}

impl StepOptions {
    /// Refuses values that no step can work with.
    pub fn check(&self) -> Result<()> {
        check_at_least_one("recentWindow", self.recent_window)?;
        if self.top_p > 0.0 && self.top_p <= 1.0 {
            return Ok(());
        }
        let (expected, actual) = ("above 0 and at most 1".into(), self.top_p.to_string());
        Err(Error::InvalidOption { option: "topP", expected, actual })
    }
}

/// What every method's builds share: which queries of the text they get, and when heads grow. Kept whatever the method, which may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildOptions {
    /// The last queries that a build gets, of one KV head (`numCentroids`); 0 = by the region, see [`BuildOptions::query_count`].
    pub num_queries: usize,
    /// Generated tokens after which a head grows, of a method that grows.
    pub append_size: usize,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { num_queries: 512, append_size: 256 }
    }
}

impl BuildOptions {
    /// Queries for a build over `num_keys` positions, where there are so many; for 0 as packages/core/src/selector-options.ts says.
    pub fn query_count(&self, num_keys: usize) -> usize {
        let (least, most) = self.query_bounds();
        (num_keys / 40).clamp(least, most)
    }

    /// Least and most that [`BuildOptions::query_count`] gives.
    pub fn query_bounds(&self) -> (usize, usize) {
        if self.num_queries == 0 { QUERIES_BY_REGION } else { (self.num_queries, self.num_queries) }
    }

    /// What the bounds on an index that grows are counted from when its first build had `num_first` queries. Where their number goes by
    /// the region it is the most there can be: a first segment that is small because the text was short is not pushed out earlier.
    pub fn base_count(&self, num_first: usize) -> usize {
        if self.num_queries == 0 { QUERIES_BY_REGION.1 } else { num_first }
    }

    pub fn check(&self) -> Result<()> {
        check_at_least_one("appendSize", self.append_size)
    }
}

/// Refuses 0.
pub fn check_at_least_one(option: &'static str, value: usize) -> Result<()> {
    if value > 0 { Ok(()) } else { Err(Error::InvalidOption { option, expected: "at least 1".into(), actual: "0".into() }) }
}

/// Refuses what lies outside `least..=most`.
pub fn check_between(option: &'static str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::InvalidOption { option, expected: format!("from {least} to {most}"), actual: value.to_string() })
}

/// Refuses what is no share.
pub fn check_share(option: &'static str, share: f64) -> Result<()> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::InvalidOption { option, expected: "from 0 to 1".into(), actual: share.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same cases as in packages/core/src/selector-options.test.ts.
    #[test]
    fn numbers_that_go_by_the_region() {
        let options = |num_queries| BuildOptions { num_queries, ..BuildOptions::default() };
        for (num_queries, num_keys, count) in
            [(0, 100, 128), (0, 5159, 128), (0, 5160, 129), (0, 8000, 200), (0, 99_000, 384), (500, 8000, 500), (8, 8000, 8)]
        {
            assert_eq!(options(num_queries).query_count(num_keys), count, "{num_queries} over {num_keys}");
        }
        assert_eq!((options(0).base_count(128), options(500).base_count(80)), (384, 80));
    }
}
