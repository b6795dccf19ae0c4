//! What this build and this machine can do.

use ctkvr_core::attention::read_map::PASSAGE;
use ctkvr_kernels::{Kernels, PAGE_SIZE};
use ctkvr_model::{available_memory_bytes, ggml_features, num_usable_threads, process_memory};
use napi_derive::napi;

use crate::error::{internal, model_error};

/// `NativeBuildInfo` of packages/native/src/binding.ts.
#[napi(object, object_from_js = false)]
pub struct JsBuildInfo {
    pub version: String,
    pub isa: String,
    pub available_isas: Vec<String>,
    pub ggml_features: Vec<String>,
    pub num_usable_threads: u32,
    pub available_memory_bytes: f64,
    pub page_size: u32,
    pub passage_size: u32,
}

/// Version, kernels, threads and memory, as of now.
#[napi(catch_unwind)]
pub fn build_info() -> napi::Result<JsBuildInfo> {
    let available_isas: Vec<String> = Kernels::available().iter().map(|kernels| kernels.name.to_string()).collect();
    Ok(JsBuildInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        isa: available_isas.last().cloned().ok_or_else(|| internal("no kernels"))?,
        available_isas,
        ggml_features: ggml_features().map_err(|error| model_error(&error))?,
        num_usable_threads: num_usable_threads() as u32,
        available_memory_bytes: available_memory_bytes() as f64,
        page_size: PAGE_SIZE as u32,
        passage_size: PASSAGE as u32,
    })
}

/// Resident memory of this process.
#[napi(object, object_from_js = false)]
pub struct JsProcessMemory {
    pub rss_bytes: f64,
    pub peak_rss_bytes: f64,
}

/// Resident memory of this process now and at its peak.
#[napi(js_name = "processMemory", catch_unwind)]
pub fn process_memory_usage() -> JsProcessMemory {
    let memory = process_memory();
    JsProcessMemory { rss_bytes: memory.rss_bytes as f64, peak_rss_bytes: memory.peak_rss_bytes as f64 }
}
