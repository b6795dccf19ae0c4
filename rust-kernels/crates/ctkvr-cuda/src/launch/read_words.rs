//! Reads memory and does next to nothing with it, to measure how fast the device's memory is: see `kernels/read_words.cu`. No step uses it.

use super::traffic::Traffic;
use crate::{Device, Family, Grid, Result, Span, Stream, kernel};

/// The exclusive or of all words, in [`ReadWords::parts_len`] parts.
#[derive(Debug, Clone, Copy)]
pub struct ReadWords {
    /// A multiple of 4 words, at a multiple of 16 bytes.
    pub from: Span<u32>,
    /// u32 [[`ReadWords::parts_len`]].
    pub parts: Span<u32>,
}

kernel! {
    fn read_words(from: Span<u32>, parts: Span<u32>, quads: u64) needs { loads_16: 5 };
}

pub const FAMILY: Family = Family { file: "read_words", kernels: &[read_words::DECLARATION] };

/// As in `kernels/read_words.cu`.
const THREADS: usize = 256;
/// All that are resident at once.
const BLOCKS_A_MULTIPROCESSOR: usize = 8;

impl ReadWords {
    fn blocks(device: &Device) -> usize {
        BLOCKS_A_MULTIPROCESSOR * device.properties().multiprocessors
    }

    /// Elements of `parts`.
    pub fn parts_len(device: &Device) -> usize {
        Self::blocks(device) * THREADS
    }

    /// # Errors
    /// `Length` when a span has another; `LaunchFailed`, `DeviceLost`.
    ///
    /// # Panics
    /// When the words are not whole 16 bytes that are aligned.
    pub fn launch(&self, device: &Device, stream: &Stream) -> Result<()> {
        let (len, blocks) = (self.from.len(), Self::blocks(device));
        assert!(len.is_multiple_of(4) && self.from.address().is_multiple_of(16), "read_words: {:?}", self.from);
        self.parts.check("read_words: parts", blocks * THREADS)?;
        // SAFETY: the lengths are checked.
        unsafe { read_words::launch(device, stream, Grid::new(blocks, THREADS), self.from, self.parts, (len / 4) as u64) }
    }

    /// Of the launch.
    pub fn traffic(&self) -> Traffic {
        Traffic { stored: self.from.bytes(), passed: 0, written: self.parts.bytes() }
    }
}
