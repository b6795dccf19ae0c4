//! What tells a model from others: a hash of its file that reads little of it.

use std::fmt;
use std::ops::Range;

use crate::gguf::Gguf;
use crate::rope::RopeOverrides;

/// Bytes hashed at either end of every tensor.
const SAMPLE_BYTES: usize = 4096;

/// FNV-1a of 128 bits over the file's size, its header (metadata and tensor table), both ends of every tensor's data, and what the loader
/// changed of the rotary embedding. Two models with the same are the same, unless somebody made one to deceive: it is no signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Fingerprint {
    /// Reads some megabytes of the file.
    pub(crate) fn of(gguf: &Gguf, rope: RopeOverrides) -> Self {
        let (bytes, tensors) = (gguf.file().bytes(), gguf.tensors());
        let data = tensors.iter().map(|tensor| tensor.offset).min().unwrap_or(bytes.len());
        let mut hash = Fnv::new();
        hash.add(&(bytes.len() as u64).to_le_bytes());
        hash.add(&bytes[..data]);
        for tensor in tensors {
            samples(tensor.offset..tensor.offset + tensor.size_bytes).into_iter().for_each(|part| hash.add(&bytes[part]));
        }
        for number in [rope.freq_base, rope.freq_scale] {
            hash.add(&number.map_or(u32::MAX, f32::to_bits).to_le_bytes());
        }
        for (place, number) in rope.others() {
            hash.add(&[place]);
            hash.add(&number.to_le_bytes());
        }
        Self(hash.0)
    }
}

/// Both ends of a range, or all of a short one.
fn samples(range: Range<usize>) -> [Range<usize>; 2] {
    let first = range.start..range.end.min(range.start + SAMPLE_BYTES);
    let last = range.end.saturating_sub(SAMPLE_BYTES).max(first.end)..range.end;
    [first, last]
}

/// FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv>.
struct Fnv(u128);

impl Fnv {
    fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        // Values of the reference implementation.
        for (text, expected) in
            [("", 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128), ("a", 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964)]
        {
            let mut hash = Fnv::new();
            hash.add(text.as_bytes());
            assert_eq!(hash.0, expected, "{text}");
        }
        assert_eq!(samples(10..20), [10..20, 20..20]);
        assert_eq!(samples(0..5000), [0..4096, 4096..5000]);
        assert_eq!(samples(0..10_000), [0..4096, 5904..10_000]);
    }
}
