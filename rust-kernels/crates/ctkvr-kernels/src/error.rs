//! The one error of this crate: a table or a format that cannot be used.

/// A setting is out of range. What is checked per call is a panic in debug builds only: see the contracts.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{option} must be {expected}, got {actual}")]
pub struct Error {
    pub option: &'static str,
    pub expected: String,
    pub actual: String,
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
