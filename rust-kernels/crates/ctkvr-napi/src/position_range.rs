//! Positions as JavaScript gets them.

use std::ops::Range;

use napi_derive::napi;

/// `IndexedRegion` of packages/core/src/indexed-region.ts: positions [start, end).
#[napi(object, object_from_js = false)]
pub struct JsPositionRange {
    pub start: u32,
    pub end: u32,
}

impl From<Range<usize>> for JsPositionRange {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start as u32, end: range.end as u32 }
    }
}
