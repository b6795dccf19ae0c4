//! A model's weights as descriptions: what there is under which name, of which type and shape, and where in the file. Executors put them where
//! they run fastest.

use std::borrow::Cow;
use std::ops::Range;

use crate::description::Description;
use crate::gguf::TensorInfo;
use crate::model::Model;
use crate::tensors::{TensorUse, expected_tensors};

/// One tensor of a model.
#[derive(Debug, Clone)]
pub struct Weight<'a> {
    /// What the model's description calls it: its name in the file, or that of the output's matrix, where the embedding serves for it.
    pub name: String,
    pub purpose: TensorUse,
    /// Of the file's tensor, or of its rows that are meant.
    pub info: Cow<'a, TensorInfo>,
}

impl Model {
    /// Every tensor that the file has.
    pub fn weights(&self) -> Vec<Weight<'_>> {
        let mut weights = Vec::new();
        for expected in expected_tensors(&self.spec().description, self.spec().num_layers) {
            let Some(info) = self.gguf().tensor(&expected.stored) else { continue };
            let info = match &expected.rows {
                None => Cow::Borrowed(info),
                Some(rows) => Cow::Owned(rows_of(info, rows, expected.is_matrix())),
            };
            weights.push(Weight { name: expected.name, purpose: expected.purpose, info });
        }
        let Description { embedding, output, .. } = &self.spec().description;
        let name = output.product.weight_name();
        if self.gguf().tensor(&name).is_none()
            && let Some(info) = self.gguf().tensor(&embedding.rows.weight_name())
        {
            weights.push(Weight { name, purpose: TensorUse::Product, info: Cow::Borrowed(info) });
        }
        weights
    }
}

/// Some rows of a matrix, or values of a vector. The check of the file's tensors found that it has them.
fn rows_of(info: &TensorInfo, rows: &Range<usize>, is_matrix: bool) -> TensorInfo {
    let dimension = usize::from(is_matrix);
    let bytes = info.size_bytes / info.shape[dimension] as usize;
    let mut part = TensorInfo { offset: info.offset + rows.start * bytes, size_bytes: rows.len() * bytes, ..info.clone() };
    part.shape[dimension] = rows.len() as i64;
    part
}
