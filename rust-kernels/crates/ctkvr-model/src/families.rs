//! The families that run, one a file: the names and shapes of their tensors, and what is computed from them. To add one: a file, and its two
//! lines here (docs/guide/add-a-model.md).

mod gemma3;
mod granite;
mod llama;
mod olmo2;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use crate::description::{Description, Sizes};
use crate::metadata::Metadata;

/// A family of models.
pub(crate) struct Family {
    /// As in GGUF: the value of `general.architecture`, and what keys of the family begin with.
    pub name: &'static str,
    /// Describes a model. Metadata that all families share has been read and checked; the error is the reason why the file cannot be run.
    pub describe: fn(&Sizes, &Metadata) -> Result<Description, String>,
}

const FAMILIES: [Family; 8] =
    [llama::FAMILY, qwen2::FAMILY, qwen3::FAMILY, olmo2::FAMILY, granite::FAMILY, gemma3::FAMILY, smollm3::FAMILY, phi3::FAMILY];

impl Family {
    /// By its name in GGUF.
    pub fn named(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name)
    }

    /// The names of all, as a sentence has them.
    pub fn all_names() -> String {
        let [first @ .., last] = FAMILIES.map(|family| family.name);
        format!("{} and {last}", first.join(", "))
    }
}
