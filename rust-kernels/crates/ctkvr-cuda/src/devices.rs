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

/// All devices of the driver, in its order. One that cannot be opened is listed with the reason.
///
/// # Errors
/// `NoDriver`, `DriverTooOld`, `NoDevice`.
pub fn devices() -> Result<Vec<ListedDevice>> {
    let unknown = |index, error| ListedDevice {
        index,
        properties: Properties { name: "unknown".into(), capability: (0, 0), total_bytes: 0, multiprocessors: 0 },
        free_bytes: 0,
        unusable: Some(error),
    };
    Ok((0..driver::device_count()?).map(|index| listed(index).unwrap_or_else(|error| unknown(index, error))).collect())
}

fn listed(index: usize) -> Result<ListedDevice> {
    let context = Context::retain(index)?;
    let properties = properties_of(&context)?;
    let unusable = check_capability(&properties).and_then(|()| images::check(launch::FAMILIES, &properties)).err();
    Ok(ListedDevice { index, free_bytes: context.memory()?.0, properties, unusable })
}
