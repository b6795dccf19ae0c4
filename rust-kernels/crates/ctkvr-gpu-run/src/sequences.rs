//! Sequences on the device: pages of keys and values, and an index of every head, each in memory of its own.

use ctkvr_cuda::head_image::{HeadImage, HeadImages, HeadSizes};
use ctkvr_cuda::{Device, DeviceBuffer, Error};
use ctkvr_kernels::PAGE_SIZE;

use crate::Result;
use crate::heads::{MADE, MadeHead, is_retrieval};
use crate::model::page_layout;
use crate::q4::repeat;
use crate::shape::Shape;

pub struct Sequence {
    /// Of all heads, one page behind the other.
    pages: DeviceBuffer<u8>,
    table: DeviceBuffer<u64>,
    /// `[layers, kv_heads]`.
    images: Vec<HeadImage>,
}

impl Sequence {
    /// Copies of the made heads in turn. `like`: a sequence that is there, whose pages are copied.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn new(device: &Device, shape: &Shape, made: &[MadeHead], like: Option<&Sequence>) -> ctkvr_cuda::Result<Self> {
        let head_bytes = page_layout(shape).bytes();
        let (page_bytes, num_pages) = (shape.heads() * head_bytes, shape.context.div_ceil(PAGE_SIZE));
        let pages = DeviceBuffer::<u8>::new(device, num_pages * page_bytes)?;
        match like {
            Some(like) => device.compute().copy(pages.span(), like.pages.span())?,
            None => {
                for i in 0..num_pages {
                    let page = pages.span().part(i * page_bytes..(i + 1) * page_bytes);
                    for (m, head) in made.iter().enumerate() {
                        device.compute().copy_in(page.part(m * head_bytes..(m + 1) * head_bytes).cast(), head.pages.page(i))?;
                    }
                    repeat(device, page, made.len() * head_bytes)?;
                }
            }
        }
        let table: Vec<u64> = (0..num_pages).map(|i| pages.span().address() + (i * page_bytes) as u64).collect();
        let table = DeviceBuffer::from_slice(device, &table)?;
        let image = |head: usize| {
            let made = &made[head % MADE];
            // A store of images of its own: what is there already would be shared.
            HeadImages::default().image(device, if is_retrieval(head) { &made.retrieval } else { &made.indexed })
        };
        let images = (0..shape.heads()).map(image).collect::<ctkvr_cuda::Result<_>>()?;
        Ok(Self { pages, table, images })
    }

    /// Sequences, at most `count`: as many as there is memory for, and still room for a step.
    pub fn some(device: &Device, shape: &Shape, made: &[MadeHead], count: usize) -> Result<Vec<Self>> {
        // The largest parts of a step's memory are scores and partial sums: at 96K as much as ceilings are measured with holds them.
        let room = DeviceBuffer::<u8>::new(device, shape.ceiling_bytes)?;
        let mut sequences: Vec<Self> = Vec::new();
        while sequences.len() < count {
            match Self::new(device, shape, made, sequences.first()) {
                Ok(sequence) => sequences.push(sequence),
                Err(Error::OutOfMemory { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        device.compute().wait()?;
        drop(room);
        Ok(sequences)
    }

    /// Device address of the page table.
    pub fn table(&self) -> u64 {
        self.table.span().address()
    }

    pub fn image(&self, head: usize) -> &HeadImage {
        &self.images[head]
    }

    /// What any of its heads needs of a search's memory.
    pub fn most(&self) -> HeadSizes {
        self.images.iter().fold(HeadSizes::default(), |most, image| most.joined(image.sizes()))
    }
}
