//! The ledger of the stand-in: what launches read and write of device memory, counted.

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

use super::{Session, text};
use crate::span::{Plain, Span};

/// What memory is to launches; [`crate::launch::traffic::Traffic`] says what that means. Memory of which nothing was said is `Passed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Passed = 0,
    Stored = 1,
    Bookkeeping = 2,
}

/// What a kernel's launches have read and written, in bytes; `Counted` of stand-in/driver/ledger.hpp.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub launches: i64,
    /// Read, each byte once a launch, by what it is.
    pub stored: i64,
    pub passed: i64,
    pub bookkeeping: i64,
    /// Each byte once a launch. This and what follows is without bookkeeping.
    pub written: i64,
    /// Read, each byte once a block of threads.
    pub by_blocks: i64,
    /// Read, as often as threads ask.
    pub asked: i64,
    /// Read in sectors of 32 bytes, each once a launch: what memory moves for it.
    pub sectors: i64,
    /// Of what is stored, what no launch had read since [`Session::forget_counted`].
    pub fresh: i64,
}

struct Functions {
    memory: unsafe extern "C" fn(u64, u64, c_int),
    counted: unsafe extern "C" fn(*const c_char, *mut Counted),
    forget: unsafe extern "C" fn(),
}

fn functions() -> &'static Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let library = super::open();
        let missing = |e| -> ! { panic!("{e}: build with the feature `ledger`, so that the stand-in counts") };
        // SAFETY: the library stays loaded, and has these functions with these signatures (stand-in/driver/ledger.cpp).
        unsafe {
            Functions {
                memory: *library.get(b"ctkvr_stand_in_memory\0").unwrap_or_else(|e| missing(e)),
                counted: *library.get(b"ctkvr_stand_in_counted\0").unwrap_or_else(|e| missing(e)),
                forget: *library.get(b"ctkvr_stand_in_forget\0").unwrap_or_else(|e| missing(e)),
            }
        }
    })
}

impl Session {
    /// Says what a span's memory is to launches, until it is freed.
    pub fn memory<T: Plain>(&self, span: Span<T>, memory: Memory) {
        // SAFETY: an address of the device, which the ledger does not read.
        unsafe { (functions().memory)(span.address(), span.bytes() as u64, memory as c_int) }
    }

    /// Of all launches of a kernel since [`Session::forget_counted`].
    pub fn counted(&self, kernel: &str) -> Counted {
        let (name, mut counted) = (text(kernel), Counted::default());
        // SAFETY: a string that lives until the call ends, and a struct of the same layout.
        unsafe { (functions().counted)(name.as_ptr(), &raw mut counted) };
        counted
    }

    /// Counts begin anew.
    pub fn forget_counted(&self) {
        // SAFETY: it takes nothing.
        unsafe { (functions().forget)() }
    }
}
