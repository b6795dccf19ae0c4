//! Sequences saved to files and restored. What a file says of the settings is JSON: the selector as JavaScript named it, and the caller's notes.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use ctkvr_core::SequenceId;
use ctkvr_engine::{Engine, Error, RestoredSequence, Result};
use napi_derive::napi;
use serde::{Deserialize, Serialize};

use crate::options::{JsSelectorOptions, Settings};

#[derive(Serialize, Deserialize)]
struct Description {
    selector: JsSelectorOptions,
    notes: String,
}

/// `NativeSavedSequence`.
#[napi(object, object_from_js = false)]
pub struct JsSavedSequence {
    pub bytes: f64,
}

/// A sequence that was restored, on its way to JavaScript.
pub struct RestoredSlot {
    pub restored: RestoredSequence,
    pub named: JsSelectorOptions,
    pub notes: String,
}

/// Writes a sequence; returns the file's bytes.
pub fn save(engine: &Engine, id: SequenceId, path: &str, selector: JsSelectorOptions, notes: String) -> Result<u64> {
    let description = serde_json::to_vec(&Description { selector, notes });
    let description = description.map_err(|error| Error::Internal { what: error.to_string() })?;
    engine.save_sequence(id, Path::new(path), &description)
}

/// Reads a sequence.
pub fn restore(engine: &Engine, path: &str, cancel: &AtomicBool) -> Result<RestoredSlot> {
    let read = OnceLock::new();
    let selector = |bytes: &[u8]| {
        let other = |actual: String| Error::BadSnapshot {
            path: path.into(),
            field: "settings",
            expected: "those of a selector of this version".into(),
            actual,
        };
        let Description { selector, notes } = serde_json::from_slice(bytes).map_err(|error| other(error.to_string()))?;
        let settings = Settings::try_from(selector).map_err(|error| other(error.reason.clone()))?;
        read.get_or_init(|| (settings.named, notes));
        Ok(settings.selector)
    };
    let restored = engine.restore_sequence(Path::new(path), &selector, cancel)?;
    let Some((named, notes)) = read.into_inner() else {
        return Err(Error::Internal { what: "a snapshot was restored without its settings".into() });
    };
    Ok(RestoredSlot { restored, named, notes })
}
