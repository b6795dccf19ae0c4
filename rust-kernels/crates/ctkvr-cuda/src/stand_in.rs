//! The stand-in driver, for tests: kernels run on the CPU, streams in a seeded order, failures when asked for.
//!
//! The same tests run on a card, where `CTKVR_TEST_ON_DEVICE` is set (scripts/gpu/run): the driver is the machine's own then. It has no settings and
//! counts nothing, and new memory is filled here as the stand-in fills it, so that what a kernel leaves out shows there as well.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::span::{Plain, Span};
use crate::{Device, Result, driver};

/// Set to anything: tests take the machine's driver.
const ON_DEVICE_VARIABLE: &str = "CTKVR_TEST_ON_DEVICE";

/// What every byte of new memory is.
const POISON: u8 = 0xee;

/// Whether tests run on the machine's own driver.
fn is_on_device() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| std::env::var_os(ON_DEVICE_VARIABLE).is_some())
}

/// Fills new memory where the driver does not.
///
/// # Errors
/// Those of the driver.
pub(crate) fn poison<T: Plain>(device: &Device, new: Span<T>) -> Result<()> {
    if !is_on_device() {
        return Ok(());
    }
    device.compute().fill(new, POISON)?;
    // Other streams may write it next.
    device.compute().wait()
}

pub mod ledger;

/// Where build.rs put it.
pub fn library() -> &'static Path {
    Path::new(env!("CTKVR_STAND_IN_LIBRARY"))
}

/// Makes it this process's driver, for tests that take the driver as it is. On a card the driver is the machine's.
pub fn load() {
    if !is_on_device() {
        functions();
    }
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
    if is_on_device() {
        // Contexts take a while to make: this one stays between tests.
        static KEPT: OnceLock<Device> = OnceLock::new();
        KEPT.get_or_init(|| Device::open_with(0, &[]).unwrap_or_else(|e| panic!("{e}")));
    } else {
        session.reset();
    }
    session
}

impl Session {
    /// The driver as at the start. Everything of before is dropped already. The stand-in's only.
    pub fn reset(&self) {
        assert!(!is_on_device(), "a card is not reset");
        // SAFETY: nobody but this session uses the driver; it takes handles of before for unknown, not for others.
        unsafe { (functions().reset)() }
    }

    /// Sets one of `Settings` of stand-in/driver/state.hpp. The stand-in's only.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn set(&self, name: &str, value: impl ToString) -> &Self {
        assert!(!is_on_device(), "a card has no settings");
        let (key, value) = (text(name), text(&value.to_string()));
        // SAFETY: both are strings that live until the call ends.
        assert_ne!(unsafe { (functions().set)(key.as_ptr(), value.as_ptr()) }, 0, "the stand-in has no setting {name}");
        self
    }

    /// Streams and drawn threads run in another order. A card has its own.
    pub fn seed(&self, seed: u64) -> &Self {
        if is_on_device() { self } else { self.set("seed", seed) }
    }

    /// Threads of every launch run in this order. A card has its own.
    pub fn order(&self, order: Order) -> &Self {
        if is_on_device() { self } else { self.set("order", order as i32) }
    }

    /// A count, such as "launches", "used_memory", or how often an entry point was called; -1 if there is none of this name. The stand-in's only:
    /// tests that ask for it are in modules `on_the_stand_in`, which are left out on a card.
    pub fn count(&self, name: &str) -> i64 {
        assert!(!is_on_device(), "a card counts nothing");
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
        if !std::thread::panicking() && !is_on_device() {
            assert_eq!(self.count("used_memory"), 0, "bytes of device memory that a test left");
        }
    }
}

fn text(s: &str) -> CString {
    CString::new(s).unwrap_or_else(|e| panic!("{e}"))
}
