//! Device memory that builds use again.

use crate::{Device, DeviceBuffer, Plain, Result, Span};

/// Grows to the largest wanted and an eighth more, and is never freed in between.
pub(crate) struct Room<T> {
    buffer: Option<DeviceBuffer<T>>,
}

impl<T> Default for Room<T> {
    fn default() -> Self {
        Self { buffer: None }
    }
}

impl<T: Plain> Room<T> {
    /// So many elements with whatever is in them. What was given before is not used any more.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`.
    pub fn of(&mut self, device: &Device, len: usize) -> Result<Span<T>> {
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() < len) {
            // First the old one goes: both might not fit.
            self.buffer = None;
            // With room to grow: a sequence does, token by token.
            self.buffer = Some(DeviceBuffer::new(device, len + len / 8)?);
        }
        Ok(self.buffer.as_ref().map_or(Span::EMPTY, |buffer| buffer.span().part(0..len)))
    }

    /// A copy of `values`, in the compute stream's order.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn filled(&mut self, device: &Device, values: &[T]) -> Result<Span<T>> {
        let span = self.of(device, values.len())?;
        device.compute().copy_in(span, values)?;
        Ok(span)
    }
}

/// Hands out parts of a span, one behind the other.
pub(crate) struct Parts<T> {
    rest: Span<T>,
}

impl<T: Plain> Parts<T> {
    pub fn of(whole: Span<T>) -> Self {
        Self { rest: whole }
    }

    /// The next `len` elements, of those that are left.
    pub fn next(&mut self, len: usize) -> Span<T> {
        let part = self.rest.part(0..len);
        self.rest = self.rest.part(len..self.rest.len());
        part
    }
}

/// What is in a span after all that the compute stream was given. Waits.
///
/// # Errors
/// Those of the driver.
pub(crate) fn read<T: Plain + Default>(device: &Device, span: Span<T>) -> Result<Vec<T>> {
    let mut values = vec![T::default(); span.len()];
    device.compute().copy_out(&mut values, span)?;
    Ok(values)
}
