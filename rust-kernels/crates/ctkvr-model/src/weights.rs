//! A model's weights as descriptions: what there is under which name, of which type and shape, and where in the file. Executors put them where
//! they run fastest.

use crate::gguf::TensorInfo;
use crate::model::Model;
use crate::tensors::{TensorUse, expected_tensors};

/// The output matrix by its name, which turns the last hidden state into logits: the file's, or the embedding where that serves as output.
pub const OUTPUT_WEIGHT: &str = "output.weight";
const EMBEDDING_WEIGHT: &str = "token_embd.weight";

/// One tensor of a model.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    /// What a step finds it by: its name in the file, or [`OUTPUT_WEIGHT`] of an embedding that serves as output too.
    pub name: String,
    pub purpose: TensorUse,
    pub info: &'a TensorInfo,
}

impl Model {
    /// Every tensor that the file has, in the order of their use.
    pub fn weights(&self) -> Vec<Weight<'_>> {
        let mut weights = Vec::new();
        for expected in expected_tensors(self.spec()) {
            let Some(info) = self.gguf().tensor(&expected.name) else { continue };
            weights.push(Weight { name: expected.name, purpose: expected.purpose, info });
        }
        if self.gguf().tensor(OUTPUT_WEIGHT).is_none()
            && let Some(info) = self.gguf().tensor(EMBEDDING_WEIGHT)
        {
            weights.push(Weight { name: OUTPUT_WEIGHT.into(), purpose: TensorUse::Product, info });
        }
        weights
    }
}
