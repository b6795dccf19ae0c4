//! Asks the system for huge pages.

/// Makes the system back `bytes` bytes from `start` with huge pages where it can: best before they are first written. A hint: where it is
/// refused, ordinary pages do.
///
/// # Safety
/// The range is memory of this process's own, allocated and not shared with other processes.
pub unsafe fn prefer_huge_pages(start: *mut u8, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: sysconf has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096).max(1);
        let skip = start.align_offset(page);
        if skip < bytes {
            // SAFETY: the caller's range, from a page's start on; the advice changes no content.
            unsafe { libc::madvise(start.add(skip).cast(), bytes - skip, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes);
}
