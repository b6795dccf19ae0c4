//! What llama.cpp and ggml say while they work: kept for our error messages instead of going to the process's stderr.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

thread_local! {
    /// Lines of the capture that runs on this thread, if one does. Loading calls back on the thread that loads.
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Routes llama.cpp's and ggml's log to this module. Idempotent.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    // SAFETY: the callback is a plain function that lives as long as the process.
    INSTALLED.call_once(|| unsafe { sys::llama_log_set(Some(on_line), std::ptr::null_mut()) });
}

/// Runs `work` and returns its result with the warnings and errors logged on this thread meanwhile, one line each.
pub(crate) fn capture<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    install();
    let outer = LINES.with(|lines| lines.replace(Some(Vec::new())));
    let result = work();
    let captured = LINES.with(|lines| lines.replace(outer)).unwrap_or_default();
    (result, captured)
}

/// The captured lines as one sentence for an error message, without the names of C++ functions that begin them.
pub(crate) fn summary(lines: &[String]) -> String {
    const KEPT: usize = 2; // the first lines name the cause, later ones only who passed it on
    let said: Vec<&str> =
        lines.iter().map(|line| line.split_once(": ").map_or(line.as_str(), |(_, said)| said)).take(KEPT).collect();
    if said.is_empty() { "no reason was given".into() } else { said.join("; ") }
}

unsafe extern "C" fn on_line(level: sys::ggml_log_level, text: *const c_char, _user_data: *mut c_void) {
    if text.is_null() || level == sys::GGML_LOG_LEVEL_DEBUG || level == sys::GGML_LOG_LEVEL_INFO {
        return;
    }
    // SAFETY: ggml passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim();
    if text.is_empty() || text.chars().all(|c| c == '.') {
        return;
    }
    // A thread that is being torn down has no LINES any more; its lines are of no use to anyone.
    let _ = LINES.try_with(|lines| {
        if let Ok(mut lines) = lines.try_borrow_mut()
            && let Some(lines) = lines.as_mut()
            && lines.len() < 64
        {
            lines.push(text.to_owned());
        }
    });
}
