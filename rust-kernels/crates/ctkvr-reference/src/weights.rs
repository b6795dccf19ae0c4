//! A model's weights, widened to f32 a row at a time.

use std::collections::HashMap;

use ctkvr_model::{Error, Model, Result, TensorInfo};
use llama_cpp_sys_2 as sys;

/// Where each weight is in the model's file.
pub(crate) struct Weights {
    by_name: HashMap<String, TensorInfo>,
}

/// One matrix `[num_rows, len]`, or a vector of one row.
pub(crate) struct Matrix<'a> {
    kind: sys::ggml_type,
    bytes: &'a [u8],
    row_bytes: usize,
    pub num_rows: usize,
    /// Values of a row.
    pub len: usize,
}

impl Weights {
    pub fn of(model: &Model) -> Self {
        Self { by_name: model.weights().into_iter().map(|weight| (weight.name, weight.info.clone())).collect() }
    }

    /// The weight of this name; `None` where the model has none.
    pub fn find<'a>(&self, model: &'a Model, name: &str) -> Option<Matrix<'a>> {
        let info = self.by_name.get(name)?;
        let [len, num_rows] = [info.shape[0], info.shape[1]].map(|n| n as usize);
        let bytes = &model.file().bytes()[info.offset..][..info.size_bytes];
        Some(Matrix { kind: info.kind, bytes, row_bytes: info.size_bytes / num_rows, num_rows, len })
    }

    /// The weight of this name, which every model has.
    pub fn get<'a>(&self, model: &'a Model, name: &str) -> Result<Matrix<'a>> {
        self.find(model, name).ok_or_else(|| Error::Internal { what: format!("the model has no {name}") })
    }
}

impl Matrix<'_> {
    /// Row i in f32.
    pub fn row(&self, i: usize) -> Vec<f32> {
        let bytes = &self.bytes[i * self.row_bytes..][..self.row_bytes];
        if self.kind == sys::GGML_TYPE_F32 {
            let (words, _) = bytes.as_chunks::<4>();
            return words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        }
        let mut row = vec![0.0; self.len];
        // SAFETY: an entry of a static table, of a type that ggml's reader let through; the bytes are a row's, and it holds `len` values.
        unsafe {
            let to_float = (*sys::ggml_get_type_traits(self.kind)).to_float;
            to_float.unwrap_or_else(|| panic!("ggml cannot widen type {}", self.kind))(
                bytes.as_ptr().cast(),
                row.as_mut_ptr(),
                self.len as i64,
            );
        }
        row
    }
}
