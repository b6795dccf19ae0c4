//! Promises that another thread settles.

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred};

/// Makes the promise's value, on the JavaScript thread.
pub type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<T> + Send>;

/// Settles a promise once, from any thread.
pub type Deferred<T> = JsDeferred<T, Resolver<T>>;

/// Returns a promise that `start` settles, now or from another thread. `start` either takes the deferred with it or returns it with the
/// reason why nothing was started, which rejects the promise.
pub fn promise<'env, T: ToNapiValue>(
    env: &'env Env,
    start: impl FnOnce(Deferred<T>) -> Result<(), Refused<T>>,
) -> napi::Result<Object<'env>> {
    let (deferred, promise) = env.create_deferred::<T, Resolver<T>>()?;
    if let Err(refused) = start(deferred) {
        refused.deferred.reject(refused.error);
    }
    Ok(promise)
}

/// Why nothing was started, and the promise that is to know.
pub struct Refused<T: ToNapiValue> {
    pub deferred: Deferred<T>,
    pub error: napi::Error,
}
