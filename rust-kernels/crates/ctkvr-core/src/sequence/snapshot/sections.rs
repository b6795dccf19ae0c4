//! A snapshot as a row of named sections: a header of 64 bytes, then of each section a record of 64 bytes and its content, both padded with
//! zeros to a multiple of 64. Every byte is covered: by a checksum, by a fixed value, or by having to be 0. What is read may be damaged
//! or made up: a section lies within the file before anything is made of it.

use std::io::{self, Write};
use std::ops::Range;

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"CTKVRSEQ";
/// Raised whenever a section changes its meaning; snapshots of other versions are refused.
const VERSION: u32 = 1;
/// Written as this machine has it: keys, values and queries are in its byte order.
const BYTE_ORDER: u32 = 0x0102_0304;
/// Sections begin at multiples of it: a cache line, and more than any element needs. Also the size of the header and of a record.
const ALIGNMENT: usize = 64;
/// Bytes of a section's name, zeros behind it.
const NAME_BYTES: usize = 8;
/// Of a header and of a record what its checksum covers, which follows.
const CHECKED_BYTES: usize = 16;
/// The section behind the last one: a file without it was cut.
const END: &str = "end";

/// The error of a snapshot that is not what it should be.
pub fn bad(field: &'static str, expected: impl ToString, actual: impl ToString) -> Error {
    Error::BadSnapshot { field, expected: expected.to_string(), actual: actual.to_string() }
}

/// Writes sections in order.
pub struct SnapshotWriter<W> {
    out: W,
    num_bytes: u64,
}

impl<W: Write> SnapshotWriter<W> {
    /// Writes the header.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, num_bytes: 0 };
        let mut header = [0; ALIGNMENT];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&BYTE_ORDER.to_ne_bytes());
        let checksum = crc32fast::hash(&header[..CHECKED_BYTES]);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        writer.write(&header)?;
        Ok(writer)
    }

    /// Writes one section; `name` has at most 8 bytes.
    pub fn section(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write(&record(name, content))?;
        self.write(content)?;
        let padding = content.len().next_multiple_of(ALIGNMENT) - content.len();
        self.write(&[0; ALIGNMENT][..padding])
    }

    /// Writes the end; returns what was written to, and how many bytes.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.section(END, &[])?;
        Ok((self.out, self.num_bytes))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.num_bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

fn record(name: &str, content: &[u8]) -> [u8; ALIGNMENT] {
    let mut record = [0; ALIGNMENT];
    record[..name.len().min(NAME_BYTES)].copy_from_slice(&name.as_bytes()[..name.len().min(NAME_BYTES)]);
    record[NAME_BYTES..CHECKED_BYTES].copy_from_slice(&(content.len() as u64).to_le_bytes());
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&record[..CHECKED_BYTES]);
    checksum.update(content);
    record[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.finalize().to_le_bytes());
    record
}

/// Reads sections in order.
pub struct SnapshotReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SnapshotReader<'a> {
    /// Checks the header.
    ///
    /// # Errors
    /// `BadSnapshot`, as of everything that is read.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let header = bytes.get(..ALIGNMENT).ok_or_else(|| bad("size", format!("at least {ALIGNMENT} bytes"), bytes.len()))?;
        if &header[..8] != MAGIC {
            return Err(bad("magic", "CTKVRSEQ", String::from_utf8_lossy(&header[..8]).escape_debug()));
        }
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let version = u32::from_le_bytes(word(8));
        if version != VERSION {
            return Err(bad("version", VERSION, version));
        }
        if word(12) != BYTE_ORDER.to_ne_bytes() {
            return Err(bad("byte order", "this machine's", "another"));
        }
        check_sum("header checksum", u32::from_le_bytes(word(16)), crc32fast::hash(&header[..CHECKED_BYTES]))?;
        check_zeros(&header[CHECKED_BYTES + 4..])?;
        Ok(Self { bytes, at: ALIGNMENT })
    }

    /// The content of the next section, which must have this name.
    pub fn section(&mut self, name: &'static str) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let found = rest.get(..ALIGNMENT).ok_or_else(|| bad("size", format!("a section {name}"), "the file's end"))?;
        let wanted = record(name, &[]);
        if found[..NAME_BYTES] != wanted[..NAME_BYTES] {
            return Err(bad("section", name, String::from_utf8_lossy(&found[..NAME_BYTES]).trim_end_matches('\0').escape_debug()));
        }
        let mut len = [0; 8];
        len.copy_from_slice(&found[NAME_BYTES..CHECKED_BYTES]);
        let (len, rest) = (u64::from_le_bytes(len), &rest[ALIGNMENT..]);
        let padded = usize::try_from(len).ok().and_then(|len| len.checked_next_multiple_of(ALIGNMENT));
        let Some(padded) = padded.filter(|&padded| padded <= rest.len()) else {
            return Err(bad("size", format!("{len} bytes in section {name}"), rest.len()));
        };
        let (content, padding) = rest[..padded].split_at(len as usize);
        let expected = record(name, content);
        let sum = |record: &[u8]| u32::from_le_bytes([record[16], record[17], record[18], record[19]]);
        check_sum("checksum", sum(found), sum(&expected))?;
        check_zeros(&found[CHECKED_BYTES + 4..])?;
        check_zeros(padding)?;
        self.at += ALIGNMENT + padded;
        Ok(content)
    }

    /// Nothing may follow.
    pub fn finish(mut self) -> Result<()> {
        self.section(END)?;
        if self.at == self.bytes.len() { Ok(()) } else { Err(bad("size", format!("{} bytes", self.at), self.bytes.len())) }
    }
}

fn check_sum(field: &'static str, written: u32, actual: u32) -> Result<()> {
    if written == actual { Ok(()) } else { Err(bad(field, format!("{written:08x}"), format!("{actual:08x}"))) }
}

fn check_zeros(bytes: &[u8]) -> Result<()> {
    if bytes.iter().all(|&b| b == 0) { Ok(()) } else { Err(bad("padding", "zeros", "others")) }
}

/// Appends the fields of a section: numbers of 8 bytes, little endian, and texts behind their lengths.
#[derive(Default)]
pub struct FieldWriter {
    pub bytes: Vec<u8>,
}

impl FieldWriter {
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub fn size(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    /// A number that may be missing.
    pub fn optional(&mut self, value: Option<usize>) {
        self.u64(value.map_or(u64::MAX, |value| value as u64));
    }

    /// How many, and as many bytes.
    pub fn counted(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }
}

/// Reads what a [`FieldWriter`] wrote.
pub struct FieldReader<'a> {
    bytes: &'a [u8],
}

impl<'a> FieldReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next `count` elements of `size` bytes.
    pub fn take(&mut self, field: &'static str, count: usize, size: usize) -> Result<&'a [u8]> {
        match count.checked_mul(size).and_then(|len| self.bytes.split_at_checked(len)) {
            Some((taken, rest)) => {
                self.bytes = rest;
                Ok(taken)
            }
            None => Err(bad(field, format!("{count} times {size} bytes"), self.bytes.len())),
        }
    }

    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        let mut value = [0; 8];
        value.copy_from_slice(self.take(field, 1, 8)?);
        Ok(u64::from_le_bytes(value))
    }

    /// A number within `allowed`.
    pub fn size(&mut self, field: &'static str, allowed: Range<usize>) -> Result<usize> {
        let value = self.u64(field)?;
        let fits = usize::try_from(value).ok().filter(|value| allowed.contains(value));
        fits.ok_or_else(|| bad(field, format!("from {} to {}", allowed.start, allowed.end.saturating_sub(1)), value))
    }

    /// A number that may be missing.
    pub fn optional(&mut self, field: &'static str, allowed: Range<usize>) -> Result<Option<usize>> {
        if self.bytes.starts_with(&u64::MAX.to_le_bytes()) {
            self.u64(field).map(|_| None)
        } else {
            self.size(field, allowed).map(Some)
        }
    }

    pub fn f64(&mut self, field: &'static str) -> Result<f64> {
        Ok(f64::from_bits(self.u64(field)?))
    }

    pub fn counted(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let len = self.size(field, 0..usize::MAX)?;
        self.take(field, len, 1)
    }

    pub fn text(&mut self, field: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.counted(field)?).map_err(|_| bad(field, "UTF-8", "others"))
    }

    /// `count` positions, ascending and below `end`.
    pub fn ascending(&mut self, field: &'static str, count: usize, end: usize) -> Result<Vec<u32>> {
        let (words, _) = self.take(field, count, size_of::<u32>())?.as_chunks();
        let positions: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let ascends = positions.is_sorted_by(|a, b| a < b) && positions.last().is_none_or(|&last| (last as usize) < end);
        if ascends { Ok(positions) } else { Err(bad(field, format!("ascending and below {end}"), "others")) }
    }

    /// Nothing may follow.
    /// Whether all was read: what later versions append may be missing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn finish(self, field: &'static str) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(bad(field, "its fields and no more", format!("{} bytes more", self.bytes.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<u8> {
        let mut writer = SnapshotWriter::new(Vec::new()).unwrap();
        writer.section("first", &[7; 100]).unwrap();
        writer.section("empty", &[]).unwrap();
        let (bytes, count) = writer.finish().unwrap();
        assert_eq!(bytes.len() as u64, count);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut reader = SnapshotReader::new(bytes)?;
        let first = reader.section("first")?.to_vec();
        reader.section("empty")?;
        reader.finish()?;
        Ok(first)
    }

    #[test]
    fn sections_come_back_and_no_bit_of_the_file_is_free() {
        let bytes = written();
        assert_eq!(read(&bytes), Ok(vec![7; 100]));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&damaged), Err(Error::BadSnapshot { .. })), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(Error::BadSnapshot { .. })), "cut to {len}");
        }
        assert!(matches!(read(&[bytes, vec![0; 64]].concat()), Err(Error::BadSnapshot { field: "size", .. })));
    }

    #[test]
    fn fields_have_limits() {
        let mut writer = FieldWriter::default();
        writer.size(5);
        writer.optional(None);
        writer.optional(Some(3));
        writer.f64(0.5);
        writer.counted(b"text");
        let mut reader = FieldReader::new(&writer.bytes);
        assert_eq!(reader.size("a", 0..6), Ok(5));
        assert_eq!((reader.optional("b", 0..6), reader.optional("c", 0..6)), (Ok(None), Ok(Some(3))));
        assert_eq!((reader.f64("d"), reader.text("e")), (Ok(0.5), Ok("text")));
        assert_eq!(reader.finish("all"), Ok(()));
        assert_eq!(FieldReader::new(&writer.bytes).size("a", 0..5), Err(bad("a", "from 0 to 4", 5)));
        // A length that is a lie allocates nothing.
        assert!(FieldReader::new(&[0xfe; 8]).counted("e").is_err());
        assert!(FieldReader::new(&[1; 16]).ascending("f", usize::MAX, 9).is_err());
    }
}
