//! The one error type of this crate: what was asked, what was expected, what was got.

/// Errors of ctkvr-core. Caller mistakes and resource limits only; broken invariants are debug assertions.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A setting is out of range.
    #[error("{option} must be {expected}, got {actual}")]
    InvalidOption { option: &'static str, expected: String, actual: String },
    /// A buffer's length disagrees with the shape it was given with.
    #[error("{op}: {what} must hold {expected} values, got {actual}")]
    ShapeMismatch { op: &'static str, what: &'static str, expected: usize, actual: usize },
    /// NaN or infinity in an input.
    #[error("{op}: {what} holds a value that is not finite, first at {index}")]
    NonFinite { op: &'static str, what: &'static str, index: usize },
    /// More tokens than the sequence was created for.
    #[error("the sequence holds {max_tokens} tokens at most, {needed} are needed")]
    ContextExceeded { max_tokens: usize, needed: usize },
    /// Refused before allocation.
    #[error("{what} needs {needed} bytes, {available} are available")]
    OutOfMemory { what: &'static str, needed: u64, available: u64 },
    /// No sequence of this id.
    #[error("no sequence has the id {0}")]
    UnknownSequence(u64),
    /// An index image that is damaged, of another kind, or written by a newer version.
    #[error("index image: {field} must be {expected}, got {actual}. Write the image anew")]
    BadIndexImage { field: &'static str, expected: String, actual: String },
    /// A snapshot of a sequence that is damaged, of another version, of another model's shape, or of other settings.
    #[error("snapshot: {field} must be {expected}, got {actual}")]
    BadSnapshot { field: &'static str, expected: String, actual: String },
    /// Cancelled between two work items.
    #[error("cancelled")]
    Cancelled,
    /// The device that keys are on failed; what was on it is lost.
    #[error("{reason}")]
    DeviceLost { reason: String },
}

impl From<ctkvr_kernels::Error> for Error {
    fn from(error: ctkvr_kernels::Error) -> Self {
        let ctkvr_kernels::Error { option, expected, actual } = error;
        Self::InvalidOption { option, expected, actual }
    }
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
