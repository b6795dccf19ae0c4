//! The kernel tables: what this machine has, whether they compute what they should, and which this process may use.

use ctkvr_kernels::Kernels;
use napi_derive::napi;

use crate::error::{core_error, invalid_option};

/// `NativeKernelTable` of packages/native/src/binding.ts.
#[napi(object, object_from_js = false)]
pub struct JsKernelTable {
    pub name: String,
    pub missing: Vec<String>,
}

/// Every table of this architecture, the plainest first.
#[napi(catch_unwind)]
pub fn kernel_tables() -> Vec<JsKernelTable> {
    let known = Kernels::known().into_iter();
    known
        .map(|(table, missing)| JsKernelTable { name: table.name.into(), missing: missing.into_iter().map(String::from).collect() })
        .collect()
}

/// What a table computes wrongly, in words; null when nothing.
#[napi(catch_unwind)]
pub fn test_kernels(name: String) -> napi::Result<Option<String>> {
    let detected = Kernels::detected();
    let table = detected.iter().find(|table| table.name == name).ok_or_else(|| {
        let names: Vec<_> = detected.iter().map(|table| table.name).collect();
        invalid_option("name", &format!("one of {}", names.join(", ")), &name)
    })?;
    Ok(table.self_test().err())
}

/// From now on this process, all its threads, uses these tables only, and the scalar one.
#[napi(catch_unwind)]
pub fn allow_kernels(names: Vec<String>) {
    Kernels::allow(names);
}

/// What `allowKernels` was last given in this process; null before.
#[napi(catch_unwind)]
pub fn allowed_kernels() -> Option<Vec<String>> {
    Kernels::allowed()
}

/// The table that is used where none is named; an error when CTKVR_ISA names none that may be used.
#[napi(catch_unwind)]
pub fn fastest_kernels() -> napi::Result<String> {
    Kernels::fastest().map(|table| table.name.to_string()).map_err(|error| core_error(error.into()))
}
