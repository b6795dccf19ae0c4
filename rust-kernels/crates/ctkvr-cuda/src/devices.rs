//! What devices there are, without opening one for work.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::properties::{Properties, check_capability, properties_of};
use crate::{driver, images, launch};

/// A device that the driver lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    pub index: usize,
    pub properties: Properties,
    pub free_bytes: usize,
    /// Why it is not used; `None`: it can be.
    pub unusable: Option<Error>,
}

/// All devices of the driver, in its order.
///
/// # Errors
/// `NoDriver`, `DriverTooOld`, `NoDevice`; what the driver says of a device that it lists.
pub fn devices() -> Result<Vec<ListedDevice>> {
    (0..driver::device_count()?)
        .map(|index| {
            let context = Context::retain(index)?;
            let properties = properties_of(&context)?;
            let unusable = check_capability(&properties).and_then(|()| images::check(launch::FAMILIES, &properties)).err();
            Ok(ListedDevice { index, free_bytes: context.memory()?.0, properties, unusable })
        })
        .collect()
}
