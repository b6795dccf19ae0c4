//! Decodes whose keys and values lie in host memory: the device searches, reads the window and retrieval heads and merges, the CPU scores and
//! attends to what is listed, as ctkvr-cuda's hybrid layers do, with the same exchange and the same stages. Halves of the sequences take turns.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use ctkvr_core::AttentionShape;
use ctkvr_core::kv::head_kv::HeadKv;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_cuda::exchange::Exchange;
use ctkvr_cuda::host_layer::{HostItem, HostTeam, HostWork};
use ctkvr_cuda::launch::merge::host_len;
use ctkvr_cuda::{Device, PinnedBuffer};
use ctkvr_kernels::{Kernels, PAGE_SIZE};

use crate::Result;
use crate::batch::{Batch, Keys, Reads};
use crate::heads::{MADE, MadeHead, is_retrieval};
use crate::model::{Model, page_layout};
use crate::sequences::Sequence;
use crate::shape::Shape;

/// Keys and values of one sequence in pinned memory. All sequences of a batch read them: as much memory as a sequence of its own would have
/// is read for each, but they may find it in the CPU's caches.
pub struct HostPages {
    _words: PinnedBuffer<u64>,
    /// Where each page begins.
    pages: Vec<*const u8>,
}

impl HostPages {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, shape: &Shape, made: &[MadeHead]) -> ctkvr_cuda::Result<Self> {
        let head_words = page_layout(shape).bytes() / size_of::<u64>();
        let (page_words, num_pages) = (shape.heads() * head_words, shape.context.div_ceil(PAGE_SIZE));
        let mut words = PinnedBuffer::new(device, num_pages * page_words)?;
        for (i, page) in words.as_mut_slice().chunks_exact_mut(page_words).enumerate() {
            for (head, part) in page.chunks_exact_mut(head_words).enumerate() {
                part.copy_from_slice(made[head % MADE].pages.page(i));
            }
        }
        let pages = words.as_slice().chunks_exact(page_words).map(|page| page.as_ptr().cast()).collect();
        Ok(Self { _words: words, pages })
    }
}

/// Sequences that take their turn together.
struct Part<'a> {
    batch: Batch<'a>,
    exchange: Exchange,
}

/// A step of all parts.
pub struct HostMode<'a> {
    parts: Vec<Part<'a>>,
    team: HostTeam,
    pages: &'a HostPages,
    /// Of the last step.
    pub cpu_ms: f64,
}

impl<'a> HostMode<'a> {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(model: &'a Model<'a>, made: &[MadeHead], sequences: &[Sequence], pages: &'a HostPages) -> Result<Self> {
        let shape = model.shape;
        let halves = sequences.split_at(sequences.len().div_ceil(2));
        let mut parts = Vec::new();
        for half in [halves.0, halves.1].into_iter().filter(|half| !half.is_empty()) {
            parts.push(Part {
                batch: Batch::new(model, made, half, Keys::OnHost)?,
                exchange: Exchange::new(model.device, half.len() * shape.kv_heads, shape.group, shape.head_dim)?,
            });
        }
        let attention = AttentionShape {
            num_layers: shape.layers,
            num_q_heads: shape.kv_heads * shape.group,
            num_kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            local: None,
        };
        let num_threads = std::thread::available_parallelism()?.get();
        let team = HostTeam::new(&IndexBuilder { shape: attention, kernels: Kernels::named("", shape.head_dim)?, num_threads })?;
        Ok(Self { parts, team, pages, cpu_ms: 0.0 })
    }

    /// A token of every sequence; milliseconds, of the host's clock.
    pub fn step(&mut self) -> Result<f64> {
        let begun = Instant::now();
        self.cpu_ms = 0.0;
        let num_layers = self.parts[0].batch.model.shape.layers;
        for layer in 0..=num_layers {
            for i in 0..self.parts.len() {
                if layer > 0 {
                    self.cpu_ms += self.attend(i, layer - 1)?;
                    let Batch { model, rows, .. } = &self.parts[i].batch;
                    model.behind_attention(rows, layer - 1)?;
                }
                if layer < num_layers {
                    self.begin(i, layer)?;
                }
            }
        }
        for Part { batch, .. } in &self.parts {
            batch.model.choose(&batch.rows)?;
        }
        self.device().compute().wait()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    fn device(&self) -> &'a Device {
        self.parts[0].batch.model.device
    }

    /// A layer up to where the CPU's part is missing.
    fn begin(&self, part: usize, layer: usize) -> Result<()> {
        let Part { batch, exchange } = &self.parts[part];
        batch.model.before_attention(&batch.rows, layer)?;
        let (device, search) = (self.device(), batch.search(layer));
        let stream = device.compute();
        batch.memory.find(device, stream, &search)?;
        exchange.send(device, search.queries, search.searches)?;
        batch.memory.refine(device, stream, &search)?;
        Ok(batch.attend_to(layer, Reads::Chosen).launch(device, stream)?)
    }

    /// The CPU's part, and the merge; milliseconds of the CPU.
    fn attend(&self, part: usize, layer: usize) -> Result<f64> {
        let Part { batch, exchange } = &self.parts[part];
        let shape = batch.model.shape;
        let layout = page_layout(shape);
        let received = exchange.receive()?;
        let begun = Instant::now();
        let item = |slot: usize| {
            let head = layer * shape.kv_heads + slot % shape.kv_heads;
            // SAFETY: pages of all heads, which live as long as what `self.pages` borrows; nobody writes them.
            let kv = unsafe { HeadKv::of_pages(&self.pages.pages, layout, head * layout.bytes()) };
            let work = HostWork::Listed(batch.memory.listed(slot));
            (!is_retrieval(head)).then_some(HostItem { slot, layout: Batch::reads(shape), audit: false, kv, work })
        };
        let slots = batch.rows.n * shape.kv_heads;
        let items: Vec<HostItem> = (0..slots).filter_map(item).collect();
        self.team.run(&items, received, &AtomicBool::new(false))?;
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let given = exchange.give(self.device(), slots * host_len(shape.group, shape.head_dim))?;
        batch.merge(layer, Reads::Chosen, given).launch(self.device(), self.device().compute())?;
        Ok(ms)
    }

    /// The mean cosine of what the first part's heads get in the last layer to what they get of everything.
    ///
    /// # Errors
    /// When a step has given what is no number.
    pub fn cosine_to_everything(&self) -> Result<f64> {
        let batch = &self.parts[0].batch;
        batch.cosine_to_everything(|layer| {
            self.begin(0, layer)?;
            self.attend(0, layer).map(|_| ())
        })
    }
}
