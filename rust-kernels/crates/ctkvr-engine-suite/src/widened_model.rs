//! Rewrites a GGUF with its quantised weights widened to f16: the same model without the rounding of activations to 8 bits, so that
//! two engines can be compared to a much smaller error.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use crate::tiny_model::TemporaryFile;

/// Writes the widened model into a file that is deleted with the returned value.
pub fn widen(path: &Path) -> TemporaryFile {
    let file = TemporaryFile::new("gguf");
    let c = |path: &Path| CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: ggml's reader and writer as documented; every tensor lives in one of the two contexts until the file is written.
    unsafe {
        let mut source_context = std::ptr::null_mut();
        let params = sys::gguf_init_params { no_alloc: false, ctx: &mut source_context };
        let source = sys::gguf_init_from_file(c(path).as_ptr(), params);
        assert!(!source.is_null(), "the model could not be read");
        let target = sys::gguf_init_empty();
        sys::gguf_set_kv(target, source);
        let count = sys::gguf_get_n_tensors(source);
        let f16_bytes = (0..count).map(|id| widened_bytes(source, source_context, id)).sum::<usize>();
        let context = sys::ggml_init(sys::ggml_init_params {
            mem_size: f16_bytes + (count as usize + 1) * (sys::ggml_tensor_overhead() + 64),
            mem_buffer: std::ptr::null_mut(),
            no_alloc: false,
        });
        let mut wide = Vec::new();
        for id in 0..count {
            let tensor = sys::ggml_get_tensor(source_context, sys::gguf_get_tensor_name(source, id));
            if !sys::ggml_is_quantized((*tensor).type_) {
                sys::gguf_add_tensor(target, tensor);
                continue;
            }
            let elements = sys::ggml_nelements(tensor);
            wide.resize(elements as usize, 0.0f32);
            let to_float = (*sys::ggml_get_type_traits((*tensor).type_)).to_float.unwrap();
            to_float((*tensor).data, wide.as_mut_ptr(), elements);
            let widened = sys::ggml_new_tensor(context, sys::GGML_TYPE_F16, 2, (*tensor).ne.as_ptr());
            sys::ggml_fp32_to_fp16_row(wide.as_ptr(), (*widened).data.cast(), elements);
            sys::ggml_set_name(widened, (*tensor).name.as_ptr());
            sys::gguf_add_tensor(target, widened);
        }
        assert!(sys::gguf_write_to_file(target, c(file.path()).as_ptr(), false), "the widened model could not be written");
        sys::gguf_free(target);
        sys::gguf_free(source);
        sys::ggml_free(context);
        sys::ggml_free(source_context);
    }
    file
}

unsafe fn widened_bytes(source: *mut sys::gguf_context, context: *mut sys::ggml_context, id: i64) -> usize {
    // SAFETY: as `widen`.
    unsafe {
        let tensor = sys::ggml_get_tensor(context, sys::gguf_get_tensor_name(source, id));
        if sys::ggml_is_quantized((*tensor).type_) { sys::ggml_nelements(tensor) as usize * 2 } else { 0 }
    }
}
