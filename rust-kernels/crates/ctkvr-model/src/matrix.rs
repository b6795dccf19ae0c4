//! A model's weights by name, where they lie in its file, and widened to f32 a row at a time.

use std::collections::HashMap;

use llama_cpp_sys_2 as sys;

use crate::{Error, Model, Result, TensorInfo};

/// Where each weight is in the model's file.
pub struct Matrices {
    by_name: HashMap<String, TensorInfo>,
}

/// One matrix `[num_rows, len]`, or a vector of one row.
pub struct Matrix<'a> {
    pub info: &'a TensorInfo,
    /// As they are in the file.
    pub bytes: &'a [u8],
    pub num_rows: usize,
    /// Values of a row.
    pub len: usize,
}

impl Matrices {
    pub fn of(model: &Model) -> Self {
        Self { by_name: model.weights().into_iter().map(|weight| (weight.name, weight.info.into_owned())).collect() }
    }

    /// The weight of this name; `None` where the model has none.
    pub fn find<'a>(&'a self, model: &'a Model, name: &str) -> Option<Matrix<'a>> {
        let info = self.by_name.get(name)?;
        let [len, num_rows] = [info.shape[0], info.shape[1]].map(|n| n as usize);
        let bytes = &model.file().bytes()[info.offset..][..info.size_bytes];
        Some(Matrix { info, bytes, num_rows, len })
    }

    /// The weight of this name, which every model has.
    ///
    /// # Errors
    /// `Internal` where this one has not.
    pub fn get<'a>(&'a self, model: &'a Model, name: &str) -> Result<Matrix<'a>> {
        self.find(model, name).ok_or_else(|| Error::Internal { what: format!("the model has no {name}") })
    }
}

impl Matrix<'_> {
    /// Row i in f32.
    pub fn row(&self, i: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.len];
        self.write_row(i, &mut row);
        row
    }

    /// Row i in f32, to `row`.
    ///
    /// # Panics
    /// When there is no such row, or `row` has another length.
    pub fn write_row(&self, i: usize, row: &mut [f32]) {
        assert_eq!(row.len(), self.len, "values of a row");
        let row_bytes = self.bytes.len() / self.num_rows;
        let bytes = &self.bytes[i * row_bytes..][..row_bytes];
        if self.info.kind == sys::GGML_TYPE_F32 {
            let (words, _) = bytes.as_chunks::<4>();
            return row.iter_mut().zip(words).for_each(|(to, word)| *to = f32::from_le_bytes(*word));
        }
        // SAFETY: an entry of a static table, of a type that ggml's reader let through; the bytes are a row's, and it holds `len` values.
        unsafe {
            let to_float = (*sys::ggml_get_type_traits(self.info.kind)).to_float;
            to_float.unwrap_or_else(|| panic!("ggml cannot widen type {}", self.info.kind))(
                bytes.as_ptr().cast(),
                row.as_mut_ptr(),
                self.len as i64,
            );
        }
    }
}
