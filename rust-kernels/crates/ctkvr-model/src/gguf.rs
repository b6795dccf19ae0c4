//! Opens a GGUF file and checks it before anything trusts it: magic and size first, then ggml's own reader over a bounded header, then
//! that every tensor's data lies inside the file. Values are read with their type checked, because ggml's getters abort the process.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};
use crate::logs;
use crate::mapped_file::MappedFile;

/// Bytes at the start of a file that may be header. The largest vocabularies make headers of some 20 MB; ggml's reader allocates up to
/// four times what a lying array count allows, so this bounds what a hostile file can make us allocate (CWE-789).
const MAX_HEADER_BYTES: usize = 96 << 20;
/// A GGUF holds magic, version and two counts at least.
const MIN_FILE_BYTES: usize = 24;
/// ggml's own alignment for weights used in place.
const TENSOR_ALIGNMENT: u64 = 32;

/// A checked GGUF file: its metadata, its tensor table, and the mapped bytes.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    context: *mut sys::gguf_context,
    file: MappedFile,
    tensors: Vec<TensorInfo>,
}

// SAFETY: the context is only read after `open`.
unsafe impl Send for Gguf {}
// SAFETY: as above.
unsafe impl Sync for Gguf {}

/// One entry of the tensor table.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub kind: sys::ggml_type,
    /// Lengths, fastest dimension first, 1 beyond the last.
    pub shape: [i64; 4],
    /// From the start of the file.
    pub offset: usize,
    pub size_bytes: usize,
}

impl TensorInfo {
    pub fn num_elements(&self) -> u64 {
        self.shape.iter().fold(1, |product: u64, n| product.saturating_mul(n.unsigned_abs()))
    }

    pub fn kind_name(&self) -> String {
        // SAFETY: the type was checked by ggml's reader; the name is static.
        unsafe { CStr::from_ptr(sys::ggml_type_name(self.kind)) }.to_string_lossy().into_owned()
    }
}

/// Length of a JSON object, which follows and lies in the file.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((len, json)) = bytes.split_first_chunk::<8>() else { return false };
    json.starts_with(b"{") && (2..=json.len() as u64).contains(&u64::from_le_bytes(*len))
}

impl Gguf {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// `FileNotFound`, `FileUnreadable`, `NotGguf` (empty, too short, other magic), `CorruptGguf` (what ggml's reader refuses, data outside
    /// the file).
    pub fn open(path: &Path) -> Result<Self> {
        let file = MappedFile::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::FileNotFound { path: path.into() },
            _ => Error::FileUnreadable { path: path.into(), reason: error.to_string() },
        })?;
        let not_gguf = |reason: String| Error::NotGguf { path: path.into(), reason };
        let bytes = file.bytes();
        if bytes.is_empty() {
            return Err(not_gguf("it is empty".into()));
        }
        if is_safetensors(bytes) {
            return Err(not_gguf(
                "it is in the format safetensors: take the same model as GGUF, or convert it with llama.cpp's convert_hf_to_gguf.py".into(),
            ));
        }
        if !bytes.starts_with(b"GGUF") {
            return Err(not_gguf(format!(
                "it begins with {:?}, not with \"GGUF\"",
                String::from_utf8_lossy(&bytes[..bytes.len().min(4)])
            )));
        }
        let corrupt =
            |what: String, expected: String, actual: String| Error::CorruptGguf { path: path.into(), what, expected, actual };
        if bytes.len() < MIN_FILE_BYTES {
            return Err(corrupt("file size".into(), format!("at least {MIN_FILE_BYTES} bytes"), format!("{} bytes", bytes.len())));
        }
        let header = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        // SAFETY: the buffer is readable for the call; ggml copies what it keeps.
        let (context, lines) =
            logs::capture(|| unsafe { sys::gguf_init_from_buffer(header.as_ptr().cast(), header.len(), params) });
        if context.is_null() {
            return Err(corrupt(
                "header".into(),
                "a complete and consistent header".into(),
                format!("{} ({} bytes in the file)", logs::summary(&lines), bytes.len()),
            ));
        }
        let mut gguf = Self { path: path.into(), context, file, tensors: Vec::new() };
        gguf.tensors = gguf.read_tensor_table()?;
        Ok(gguf)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &MappedFile {
        &self.file
    }

    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// An integer of any width; `None` when the key is absent, holds another type, or is negative.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        let id = self.find(key)?;
        // SAFETY: `id` is valid and each getter is called for its own type only.
        unsafe {
            match sys::gguf_get_kv_type(self.context, id) {
                sys::GGUF_TYPE_UINT8 => Some(sys::gguf_get_val_u8(self.context, id).into()),
                sys::GGUF_TYPE_UINT16 => Some(sys::gguf_get_val_u16(self.context, id).into()),
                sys::GGUF_TYPE_UINT32 => Some(sys::gguf_get_val_u32(self.context, id).into()),
                sys::GGUF_TYPE_UINT64 => Some(sys::gguf_get_val_u64(self.context, id)),
                sys::GGUF_TYPE_INT8 => sys::gguf_get_val_i8(self.context, id).try_into().ok(),
                sys::GGUF_TYPE_INT16 => sys::gguf_get_val_i16(self.context, id).try_into().ok(),
                sys::GGUF_TYPE_INT32 => sys::gguf_get_val_i32(self.context, id).try_into().ok(),
                sys::GGUF_TYPE_INT64 => sys::gguf_get_val_i64(self.context, id).try_into().ok(),
                sys::GGUF_TYPE_ARRAY => self.uniform_array(id),
                _ => None,
            }
        }
    }

    pub fn float(&self, key: &str) -> Option<f32> {
        let id = self.find(key)?;
        // SAFETY: as in `unsigned`.
        unsafe {
            match sys::gguf_get_kv_type(self.context, id) {
                sys::GGUF_TYPE_FLOAT32 => Some(sys::gguf_get_val_f32(self.context, id)),
                sys::GGUF_TYPE_FLOAT64 => Some(sys::gguf_get_val_f64(self.context, id) as f32),
                _ => None,
            }
        }
    }

    pub fn flag(&self, key: &str) -> Option<bool> {
        let id = self.find(key)?;
        // SAFETY: as in `unsigned`.
        unsafe {
            (sys::gguf_get_kv_type(self.context, id) == sys::GGUF_TYPE_BOOL).then(|| sys::gguf_get_val_bool(self.context, id))
        }
    }

    /// A text, up to its first NUL as llama.cpp reads it.
    pub fn text(&self, key: &str) -> Option<String> {
        let id = self.find(key)?;
        // SAFETY: as in `unsigned`; the string is NUL-terminated and owned by the context.
        unsafe {
            (sys::gguf_get_kv_type(self.context, id) == sys::GGUF_TYPE_STRING)
                .then(|| CStr::from_ptr(sys::gguf_get_val_str(self.context, id)).to_string_lossy().into_owned())
        }
    }

    /// Whether the key exists, whatever its type.
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The elements of an array of texts, each up to its first NUL.
    pub fn texts(&self, key: &str) -> Option<Vec<&[u8]>> {
        let id = self.array_of(key, sys::GGUF_TYPE_STRING)?;
        // SAFETY: `id` names an array of strings; the strings are NUL-terminated and live as long as the context.
        unsafe {
            let count = sys::gguf_get_arr_n(self.context, id);
            Some((0..count).map(|i| CStr::from_ptr(sys::gguf_get_arr_str(self.context, id, i)).to_bytes()).collect())
        }
    }

    /// The elements of an array of i32.
    pub fn integers(&self, key: &str) -> Option<Vec<i32>> {
        let id = self.array_of(key, sys::GGUF_TYPE_INT32)?;
        // SAFETY: `id` names an array of i32 of this length; ggml keeps it in a byte vector, hence the unaligned reads.
        unsafe {
            let count = sys::gguf_get_arr_n(self.context, id);
            let first: *const i32 = sys::gguf_get_arr_data(self.context, id).cast();
            Some((0..count).map(|i| first.add(i).read_unaligned()).collect())
        }
    }

    fn find(&self, key: &str) -> Option<i64> {
        let key = CString::new(key).ok()?;
        // SAFETY: the context is live and the key NUL-terminated.
        let id = unsafe { sys::gguf_find_key(self.context, key.as_ptr()) };
        (id >= 0).then_some(id)
    }

    fn array_of(&self, key: &str, element: sys::gguf_type) -> Option<i64> {
        let id = self.find(key)?;
        // SAFETY: the element type is asked for only when the value is an array.
        let matches = unsafe {
            sys::gguf_get_kv_type(self.context, id) == sys::GGUF_TYPE_ARRAY && sys::gguf_get_arr_type(self.context, id) == element
        };
        matches.then_some(id)
    }

    /// Some files give one number per layer; when all agree it is as good as one number.
    fn uniform_array(&self, id: i64) -> Option<u64> {
        // SAFETY: `id` names an array; data is read only for the two 4-byte integer types.
        unsafe {
            let element = sys::gguf_get_arr_type(self.context, id);
            let count = sys::gguf_get_arr_n(self.context, id);
            if count == 0 || (element != sys::GGUF_TYPE_UINT32 && element != sys::GGUF_TYPE_INT32) {
                return None;
            }
            let first: *const u32 = sys::gguf_get_arr_data(self.context, id).cast();
            let value = first.read_unaligned();
            let uniform = (1..count).all(|i| first.add(i).read_unaligned() == value);
            (uniform && value <= i32::MAX as u32).then_some(value.into())
        }
    }

    fn read_tensor_table(&self) -> Result<Vec<TensorInfo>> {
        let file_size = self.file.len();
        // SAFETY: the context is live.
        let (count, data_start, alignment) = unsafe {
            (
                sys::gguf_get_n_tensors(self.context),
                sys::gguf_get_data_offset(self.context),
                sys::gguf_get_alignment(self.context) as u64,
            )
        };
        if count > 0 && !alignment.is_multiple_of(TENSOR_ALIGNMENT) {
            return Err(Error::UnsupportedModel {
                path: self.path.clone(),
                reason: format!("general.alignment must be a multiple of {TENSOR_ALIGNMENT}, got {alignment}"),
            });
        }
        let mut tensors = Vec::new();
        for id in 0..count {
            // SAFETY: `id` is in range; names are NUL-terminated and `ne` has four elements.
            let (name, kind, shape, relative, size_bytes) = unsafe {
                (
                    CStr::from_ptr(sys::gguf_get_tensor_name(self.context, id)).to_string_lossy().into_owned(),
                    sys::gguf_get_tensor_type(self.context, id),
                    *sys::gguf_get_tensor_ne(self.context, id).cast::<[i64; 4]>(),
                    sys::gguf_get_tensor_offset(self.context, id),
                    sys::gguf_get_tensor_size(self.context, id),
                )
            };
            let end = data_start.checked_add(relative).and_then(|start| start.checked_add(size_bytes));
            let Some(end) = end.filter(|end| *end <= file_size) else {
                return Err(Error::CorruptGguf {
                    path: self.path.clone(),
                    what: format!("data of tensor {name}"),
                    expected: end.map_or("an end below 2^64".into(), |end| format!("a file of at least {end} bytes")),
                    actual: format!("{file_size} bytes"),
                });
            };
            tensors.push(TensorInfo { name, kind, shape, offset: end - size_bytes, size_bytes });
        }
        Ok(tensors)
    }
}

impl Drop for Gguf {
    fn drop(&mut self) {
        // SAFETY: made by gguf_init_from_buffer, freed once.
        unsafe { sys::gguf_free(self.context) };
    }
}
