//! The rows of a step by how their sequences store keys and values: a launch reads one format.

use std::ops::Range;

use ctkvr_core::Phase;
use ctkvr_kernels::KvFormat;

use crate::batch_part::BatchPart;
use crate::head_image::HeadSizes;

/// Consecutive rows of a step whose sequences store keys and values alike.
#[derive(Debug, Clone)]
pub(crate) struct FormatRows {
    pub format: KvFormat,
    pub rows: Range<usize>,
    /// Those of them that are decodes: the first ones.
    pub decodes: Range<usize>,
    /// What the searches of the decodes need, where any is made on the device.
    pub search: Option<HeadSizes>,
}

impl FormatRows {
    /// All rows of a part, in order, instead of what was in `formats`.
    pub fn fill(formats: &mut Vec<Self>, part: &BatchPart) {
        formats.clear();
        for of in part.sequences() {
            let rows = part.rows_of(of);
            let format = of.sequence.kv.format();
            if formats.last().is_none_or(|last| last.format != format) {
                let first = rows.start..rows.start;
                formats.push(FormatRows { format, rows: first.clone(), decodes: first, search: None });
            }
            if let Some(last) = formats.last_mut() {
                last.rows.end = rows.end;
                if of.append.phase == Phase::Decode {
                    last.decodes.end = rows.end;
                }
            }
        }
    }
}
