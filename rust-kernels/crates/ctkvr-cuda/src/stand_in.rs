//! The stand-in driver, for tests: kernels run on the CPU, streams in a seeded order, failures when asked for.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::driver;

pub mod ledger;

/// Where build.rs put it.
pub fn library() -> &'static Path {
    Path::new(env!("CTKVR_STAND_IN_LIBRARY"))
}

/// Makes it this process's driver, for tests that take the driver as it is.
pub fn load() {
    functions();
}

struct Functions {
    set: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int,
    get: unsafe extern "C" fn(*const c_char) -> i64,
    report: unsafe extern "C" fn() -> *const c_char,
    reset: unsafe extern "C" fn(),
}

fn functions() -> &'static Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        driver::preload(library()).unwrap_or_else(|e| panic!("{}: {e}", library().display()));
        let library = open();
        // SAFETY: the library stays loaded, and has these functions with these signatures (stand-in/driver/control.cpp).
        unsafe {
            Functions {
                set: *library.get(b"ctkvr_stand_in_set\0").unwrap_or_else(|e| panic!("{e}")),
                get: *library.get(b"ctkvr_stand_in_get\0").unwrap_or_else(|e| panic!("{e}")),
                report: *library.get(b"ctkvr_stand_in_report\0").unwrap_or_else(|e| panic!("{e}")),
                reset: *library.get(b"ctkvr_stand_in_reset\0").unwrap_or_else(|e| panic!("{e}")),
            }
        }
    })
}

/// The library, which stays loaded.
fn open() -> std::mem::ManuallyDrop<libloading::Library> {
    // SAFETY: what it does when it is loaded needs nothing of this process.
    let library = unsafe { libloading::Library::new(library()) };
    std::mem::ManuallyDrop::new(library.unwrap_or_else(|e| panic!("{e}")))
}

/// The order in which a block's warps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
    Drawn,
}

/// Warps in each order: a kernel is right in all of them.
pub const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Drawn];

/// The driver for one test: nobody else of the process uses it meanwhile, and it begins fresh. Keep it until the devices are dropped.
pub struct Session {
    _alone: MutexGuard<'static, ()>,
}

/// Waits for other tests, and begins with a fresh driver.
pub fn session() -> Session {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing that matters: the driver is reset.
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let session = Session { _alone: alone };
    session.reset();
    session
}

impl Session {
    /// The driver as at the start. Everything of before is dropped already.
    pub fn reset(&self) {
        // SAFETY: nobody but this session uses the driver; it takes handles of before for unknown, not for others.
        unsafe { (functions().reset)() }
    }

    /// Sets one of `Settings` of stand-in/driver/state.hpp.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn set(&self, name: &str, value: impl ToString) -> &Self {
        let (key, value) = (text(name), text(&value.to_string()));
        // SAFETY: both are strings that live until the call ends.
        assert_ne!(unsafe { (functions().set)(key.as_ptr(), value.as_ptr()) }, 0, "the stand-in has no setting {name}");
        self
    }

    /// Streams and drawn threads run in another order.
    pub fn seed(&self, seed: u64) -> &Self {
        self.set("seed", seed)
    }

    /// Threads of every launch run in this order.
    pub fn order(&self, order: Order) -> &Self {
        self.set("order", order as i32)
    }

    /// A count, such as "launches", "used_memory", or how often an entry point was called; -1 if there is none of this name.
    pub fn count(&self, name: &str) -> i64 {
        let name = text(name);
        // SAFETY: a string that lives until the call ends.
        unsafe { (functions().get)(name.as_ptr()) }
    }

    /// Why the device was lost, or a call refused.
    pub fn report(&self) -> String {
        // SAFETY: the text is valid until the next call of the driver, which this session alone makes.
        unsafe { CStr::from_ptr((functions().report)()) }.to_string_lossy().into_owned()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.count("used_memory"), 0, "bytes of device memory that a test left");
        }
    }
}

fn text(s: &str) -> CString {
    CString::new(s).unwrap_or_else(|e| panic!("{e}"))
}
