//! The error type of this crate. Every variant has a stable code of packages/core/src/errors.ts and its numbers as fields, so that the
//! JavaScript side needs no knowledge of the variants.

use std::path::PathBuf;

/// What went wrong, what was expected and what was got; messages name the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: no such file. Check the path, or fetch a model with `ctkvr pull`", path = path.display())]
    FileNotFound { path: PathBuf },
    #[error("{path}: cannot be read: {reason}", path = path.display())]
    FileUnreadable { path: PathBuf, reason: String },
    #[error("{path}: not a GGUF file ({reason}). Name a .gguf model file", path = path.display())]
    NotGguf { path: PathBuf, reason: String },
    #[error(
        "{path}: damaged GGUF file: {what}, expected {expected}, got {actual}. The file may be incomplete: fetch it again",
        path = path.display()
    )]
    CorruptGguf { path: PathBuf, what: String, expected: String, actual: String },
    #[error("{path}: this model cannot be run: {reason}", path = path.display())]
    UnsupportedModel { path: PathBuf, reason: String },
    #[error("{option} must be {expected}, got {actual}")]
    InvalidOption { option: String, expected: String, actual: String },
    /// Refused before any work.
    #[error(
        "the sequence holds {length} of at most {max_tokens} tokens and {added} more do not fit. Shorten the text or ask for a longer context"
    )]
    ContextExceeded { max_tokens: usize, length: usize, added: usize },
    #[error("{what} needs {needed} bytes, {available} are available. Use a shorter context or a smaller model")]
    OutOfMemory { what: String, needed: u64, available: u64 },
    #[error("index image: {field} must be {expected}, got {actual}. Write the image anew")]
    BadIndexImage { field: &'static str, expected: String, actual: String },
    #[error("{path}: cannot be written: {reason}. What was there before is as it was", path = path.display())]
    FileUnwritable { path: PathBuf, reason: String },
    #[error("{path}: the disk is full. What was there before is as it was", path = path.display())]
    DiskFull { path: PathBuf },
    /// Damaged, of another version, or of another model or settings.
    #[error("{path}: not a snapshot that can be restored here: {field} must be {expected}, got {actual}", path = path.display())]
    BadSnapshot { path: PathBuf, field: &'static str, expected: String, actual: String },
    /// One step or index build runs at a time.
    #[error("{operation}: the engine runs another step or index build; wait for it to end or cancel it")]
    Busy { operation: &'static str },
    #[error("no sequence has the id {0}: it was closed or never created")]
    UnknownSequence(u64),
    #[error("cancelled")]
    Cancelled,
    /// No driver, no such device, or nothing in this build for it.
    #[error("{reason}")]
    DeviceUnavailable { reason: String },
    /// A kernel trapped, or the device is gone. Sequences that were on it are lost; saved ones are not.
    #[error("{reason}. What was on the device is lost; load the model again")]
    DeviceLost { reason: String },
    /// No library of compute kernels for this machine was found (builds with the feature `dynamic-backends` only).
    #[error(
        "no compute kernels for this machine: {reason}. Set CTKVR_BACKENDS_DIR to the folder that holds the ggml-cpu libraries"
    )]
    NoComputeBackend { reason: String },
    /// A bug of ours: a panic in an attention backend, a failed ggml call that has no other cause, NaN logits.
    #[error("internal error: {what}")]
    Internal { what: String },
}

/// One datum of an error.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    Text(String),
    Number(f64),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The stable code, as in packages/core/src/errors.ts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::FileNotFound { .. } => "CTKVR_FILE_NOT_FOUND",
            Self::FileUnreadable { .. } => "CTKVR_FILE_UNREADABLE",
            Self::NotGguf { .. } => "CTKVR_NOT_GGUF",
            Self::CorruptGguf { .. } => "CTKVR_CORRUPT_GGUF",
            Self::UnsupportedModel { .. } => "CTKVR_UNSUPPORTED_MODEL",
            Self::InvalidOption { .. } => "CTKVR_INVALID_OPTION",
            Self::ContextExceeded { .. } => "CTKVR_CONTEXT_EXCEEDED",
            Self::OutOfMemory { .. } => "CTKVR_OUT_OF_MEMORY",
            Self::BadIndexImage { .. } => "CTKVR_BAD_INDEX_IMAGE",
            Self::FileUnwritable { .. } => "CTKVR_OUTPUT_FAILED",
            Self::DiskFull { .. } => "CTKVR_DISK_FULL",
            Self::BadSnapshot { .. } => "CTKVR_BAD_SNAPSHOT",
            Self::Busy { .. } => "CTKVR_BUSY",
            Self::UnknownSequence(_) => "CTKVR_CLOSED",
            Self::Cancelled => "CTKVR_ABORTED",
            Self::DeviceUnavailable { .. } => "CTKVR_DEVICE_UNAVAILABLE",
            Self::DeviceLost { .. } => "CTKVR_DEVICE_LOST",
            Self::NoComputeBackend { .. } => "CTKVR_NATIVE_UNAVAILABLE",
            Self::Internal { .. } => "CTKVR_INTERNAL",
        }
    }

    /// Names and numbers of the message, for programs.
    pub fn fields(&self) -> Vec<(&'static str, FieldValue)> {
        match self {
            Self::FileNotFound { path } | Self::DiskFull { path } => vec![("path", text(path.display()))],
            Self::FileUnreadable { path, reason }
            | Self::FileUnwritable { path, reason }
            | Self::NotGguf { path, reason }
            | Self::UnsupportedModel { path, reason } => {
                vec![("path", text(path.display())), ("reason", text(reason))]
            }
            Self::BadSnapshot { path, field, expected, actual } => {
                vec![("path", text(path.display())), ("field", text(field)), ("expected", text(expected)), ("actual", text(actual))]
            }
            Self::CorruptGguf { path, what, expected, actual } => {
                vec![("path", text(path.display())), ("what", text(what)), ("expected", text(expected)), ("actual", text(actual))]
            }
            Self::InvalidOption { option, expected, actual } => {
                vec![("option", text(option)), ("expected", text(expected)), ("actual", text(actual))]
            }
            Self::ContextExceeded { max_tokens, length, added } => {
                vec![("maxTokens", number(*max_tokens)), ("length", number(*length)), ("added", number(*added))]
            }
            Self::OutOfMemory { what, needed, available } => vec![
                ("what", text(what)),
                ("neededBytes", FieldValue::Number(*needed as f64)),
                ("availableBytes", FieldValue::Number(*available as f64)),
            ],
            Self::BadIndexImage { field, expected, actual } => {
                vec![("field", text(field)), ("expected", text(expected)), ("actual", text(actual))]
            }
            Self::Busy { operation } => vec![("operation", text(operation))],
            Self::UnknownSequence(id) => vec![("sequence", FieldValue::Number(*id as f64))],
            Self::Cancelled => vec![],
            Self::NoComputeBackend { reason } | Self::DeviceUnavailable { reason } | Self::DeviceLost { reason } => {
                vec![("reason", text(reason))]
            }
            Self::Internal { what } => vec![("what", text(what))],
        }
    }
}

fn text(value: impl ToString) -> FieldValue {
    FieldValue::Text(value.to_string())
}

fn number(value: usize) -> FieldValue {
    FieldValue::Number(value as f64)
}

impl From<ctkvr_kernels::Error> for Error {
    fn from(error: ctkvr_kernels::Error) -> Self {
        ctkvr_core::Error::from(error).into()
    }
}

impl From<ctkvr_core::Error> for Error {
    fn from(error: ctkvr_core::Error) -> Self {
        use ctkvr_core::Error as Core;
        match error {
            Core::InvalidOption { option, expected, actual } => Self::InvalidOption { option: option.into(), expected, actual },
            Core::ContextExceeded { max_tokens, needed } => Self::ContextExceeded { max_tokens, length: 0, added: needed },
            Core::OutOfMemory { what, needed, available } => Self::OutOfMemory { what: what.into(), needed, available },
            Core::BadIndexImage { field, expected, actual } => Self::BadIndexImage { field, expected, actual },
            Core::BadSnapshot { field, expected, actual } => Self::BadSnapshot { path: PathBuf::new(), field, expected, actual },
            Core::UnknownSequence(id) => Self::UnknownSequence(id),
            Core::Cancelled => Self::Cancelled,
            Core::DeviceLost { reason } => Self::DeviceLost { reason },
            other => Self::Internal { what: other.to_string() },
        }
    }
}
