//! A file mapped read-only into memory. Truncating the file while it is mapped kills the process (SIGBUS): model files are not
//! written while in use.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A mapped file and its open descriptor.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    start: *mut u8,
    len: usize,
}

// SAFETY: the mapping is read-only and lives as long as the value.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps the whole of a regular, non-empty file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let len = usize::try_from(metadata.len()).map_err(|_| io::Error::other("it is larger than the address space"))?;
        if len == 0 {
            return Ok(Self { file, start: std::ptr::null_mut(), len });
        }
        // SAFETY: a fresh private read-only mapping of an open file; checked for failure.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { file, start: start.cast(), len })
    }

    pub fn bytes(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the mapping is `len` bytes, readable, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reads without going through the mapping, so that the pages do not count as this process's memory.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Brings a range into memory now rather than at first use. A hint: failure only means slower first steps.
    pub fn populate(&self, offset: usize, len: usize) {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
        let from = offset / page * page;
        let to = offset.saturating_add(len).min(self.len);
        if from >= to {
            return;
        }
        #[cfg(target_os = "linux")]
        const ADVICE: libc::c_int = libc::MADV_POPULATE_READ;
        #[cfg(not(target_os = "linux"))]
        const ADVICE: libc::c_int = libc::MADV_WILLNEED;
        // SAFETY: the range lies inside the mapping and `from` is page aligned.
        unsafe { libc::madvise(self.start.add(from).cast(), to - from, ADVICE) };
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: exactly what `open` mapped.
            unsafe { libc::munmap(self.start.cast(), self.len) };
        }
    }
}
