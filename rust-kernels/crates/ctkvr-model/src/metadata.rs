//! A file's metadata of its family: keys that begin with the family's name.

use crate::gguf::Gguf;

/// The error is the reason why the file cannot be run.
type Result<T> = std::result::Result<T, String>;

/// Reads `<family>.<name>`.
#[derive(Clone, Copy)]
pub(crate) struct Metadata<'a> {
    pub gguf: &'a Gguf,
    /// As in GGUF.
    pub family: &'a str,
}

impl Metadata<'_> {
    /// The whole key.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family)
    }

    pub fn has(&self, name: &str) -> bool {
        self.gguf.has(&self.key(name))
    }

    pub fn unsigned(&self, name: &str) -> Option<u64> {
        self.gguf.unsigned(&self.key(name))
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        self.gguf.float(&self.key(name))
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.gguf.flag(&self.key(name))
    }

    /// A number from 1 to `max` that must be there.
    pub fn size(&self, name: &str, max: u64) -> Result<usize> {
        match self.unsigned(name) {
            Some(value) if (1..=max).contains(&value) => Ok(value as usize),
            Some(value) => Err(format!("{} must be from 1 to {max}, got {value}", self.key(name))),
            None => Err(format!("{} is missing or not one positive number", self.key(name))),
        }
    }

    /// A factor; `None` when it is missing or 0, which llama.cpp takes for missing.
    pub fn scale(&self, name: &str) -> Result<Option<f32>> {
        if !self.has(name) {
            return Ok(None);
        }
        match self.float(name) {
            Some(0.0) => Ok(None),
            Some(scale) if scale.is_finite() && scale > 0.0 => Ok(Some(scale)),
            other => Err(format!("{} must be a positive number, got {other:?}", self.key(name))),
        }
    }

    /// Refuses a file that sets a number which says that the model has something that does not run.
    pub fn refuse(&self, name: &str, what: &str) -> Result<()> {
        match self.has(name) && self.unsigned(name) != Some(0) {
            true => Err(format!("it {what} ({} is set)", self.key(name))),
            false => Ok(()),
        }
    }
}
