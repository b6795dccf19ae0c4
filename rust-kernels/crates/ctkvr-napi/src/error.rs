//! Errors on their way to JavaScript: the message of each is JSON `{ code, message, fields }`, which packages/native/src/errors.ts reads.

use ctkvr_model::{Error, FieldValue};
use serde_json::{Map, Value, json};

/// A JavaScript error of a code of packages/core/src/errors.ts.
pub fn js_error(code: &str, message: impl ToString, fields: Map<String, Value>) -> napi::Error {
    napi::Error::from_reason(json!({ "code": code, "message": message.to_string(), "fields": fields }).to_string())
}

/// The JavaScript error of an error of the engine.
pub fn model_error(error: &Error) -> napi::Error {
    let fields = error.fields().into_iter().map(|(name, value)| {
        let value = match value {
            FieldValue::Text(text) => Value::from(text),
            FieldValue::Number(number) => Value::from(number),
        };
        (name.to_string(), value)
    });
    js_error(error.code(), error, fields.collect())
}

/// The JavaScript error of an error of the core, for what is used without a model.
pub fn core_error(error: ctkvr_core::Error) -> napi::Error {
    use ctkvr_core::Error as Core;
    match &error {
        Core::ShapeMismatch { op, what, expected, actual } => js_error(
            "CTKVR_SHAPE_MISMATCH",
            &error,
            fields([
                ("op", (*op).into()),
                ("argument", (*what).into()),
                ("expected", (*expected).into()),
                ("actual", (*actual).into()),
            ]),
        ),
        Core::NonFinite { op, what, index } => js_error(
            "CTKVR_NON_FINITE",
            &error,
            fields([("op", (*op).into()), ("argument", (*what).into()), ("index", (*index).into())]),
        ),
        _ => model_error(&error.into()),
    }
}

/// An argument that no engine can work with.
pub fn invalid_option(option: &str, expected: &str, actual: impl ToString) -> napi::Error {
    let actual = actual.to_string();
    js_error(
        "CTKVR_INVALID_OPTION",
        format!("{option} must be {expected}, got {actual}"),
        fields([("option", option.into()), ("expected", expected.into()), ("actual", actual.into())]),
    )
}

/// Used after `close()`.
pub fn closed(what: &str) -> napi::Error {
    js_error("CTKVR_CLOSED", format!("this {what} is closed; create another"), fields([("what", what.into())]))
}

/// Refused because the object is part of the running step or index build.
pub fn busy(operation: &str) -> napi::Error {
    js_error(
        "CTKVR_BUSY",
        format!("{operation}: the engine runs a step or an index build; wait for it to end or cancel it"),
        fields([("operation", operation.into())]),
    )
}

/// Refused because the index is being changed.
pub fn busy_index() -> napi::Error {
    js_error("CTKVR_BUSY", "the index is being changed; wait for that to end, or use a fork made before", Map::new())
}

/// A bug of ours.
pub fn internal(what: impl ToString) -> napi::Error {
    js_error("CTKVR_INTERNAL", format!("internal error: {}", what.to_string()), Map::new())
}

/// The text of a caught panic.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("no message"))
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// Runs `work`, a panic of it being an internal error: for worker threads, where nothing else catches it.
pub fn caught<T>(work: impl FnOnce() -> napi::Result<T>) -> napi::Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(internal(panic_text(&*payload))))
}
