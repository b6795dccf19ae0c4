//! Indexes that are on the device, each as long as its state lives here.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::retriever::{HeadRetriever, HeadState};

use crate::head_image::{HeadImage, HeadImages};
use crate::{Device, Result};

/// Images by the address of their state, which nobody else gets as long as there is a `Weak` to it.
#[derive(Default)]
pub(crate) struct HeadCache {
    images: HashMap<usize, (Weak<dyn HeadRetriever>, HeadImage)>,
    segments: HeadImages,
}

/// Whether a head of CTkvr scores every key of its region.
pub(crate) fn scores_all(state: &HeadState) -> bool {
    let head: &dyn Any = &*state.head;
    head.downcast_ref::<CtkvrHead>().is_some_and(CtkvrHead::scores_all)
}

impl HeadCache {
    /// The image of a state of CTkvr, brought to the device if it is not there; `None` for other methods.
    ///
    /// # Errors
    /// As the copies.
    pub fn image(&mut self, device: &Device, state: &HeadState) -> Result<Option<&HeadImage>> {
        let head: &dyn Any = &*state.head;
        let Some(head) = head.downcast_ref::<CtkvrHead>() else { return Ok(None) };
        let key = Arc::as_ptr(&state.head).cast::<()>() as usize;
        if !self.images.contains_key(&key) {
            // States that are gone make room for those that come.
            self.images.retain(|_, (state, _)| state.strong_count() > 0);
            let image = self.segments.image(device, head)?;
            self.images.insert(key, (Arc::downgrade(&state.head), image));
        }
        Ok(self.images.get(&key).map(|(_, image)| image))
    }
}
