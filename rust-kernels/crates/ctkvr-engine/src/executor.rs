//! The seam between an engine and what computes: a whole step, or a chunk of a long one, is one call. An executor has the model's
//! weights where it wants them, its buffers, its threads or its device; sequences are the engine's.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_core::AttentionShape;
use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::sequence::lifecycle::HeadMaker;

use crate::batch::{Batch, BatchOutput};
use crate::{Error, Result};

/// What an executor can do; the same all its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Of the model it was made for.
    pub shape: AttentionShape,
    /// Values of a row of logits.
    pub vocab_size: usize,
    /// Most rows of one batch.
    pub max_rows: usize,
    /// Threads of this process that it computes on.
    pub num_threads: usize,
}

/// Computes steps over sequences. One call at a time. As a [`HeadMaker`] it makes the states of heads when the engine says so; there it reads a
/// sequence and changes nothing.
pub trait Executor: HeadMaker + Send {
    fn capabilities(&self) -> Capabilities;

    /// What its results' bits depend on beside the model and the tokens: itself and its kernels. Sequences that were saved under another name are
    /// restored all the same, and go on with other roundings.
    fn arithmetic(&self) -> String;

    /// Where the pages of all sequences come from: memory that it computes on. Of the capabilities' shape.
    fn kv_pool(&self) -> Arc<dyn KvPool>;

    /// Takes the batch's rows through the model. Writes into every sequence of the batch:
    /// - keys and values of the rows, at the positions from the sequence's length on, which are prepared;
    /// - queries of the rows, after rotary embedding, in their places ([`ctkvr_core::sequence::append::Append::queries`]).
    ///
    /// Nothing else of a sequence changes, its length in particular: the engine keeps the rows when the call succeeds. A decode row reads what
    /// its sequence's selector chooses of the positions before it; a prefill row reads all of them, itself included.
    ///
    /// `output` is overwritten; it keeps its memory from call to call. `cancel` is looked at now and then, at least once a layer.
    ///
    /// # Errors
    /// `Cancelled`, `OutOfMemory`, `Internal`. `output` is of no use then, what was written is given up, and the executor is as good as new.
    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()>;
}

impl Capabilities {
    /// Refuses an executor that was made for another model, or that takes fewer rows.
    pub(crate) fn check(&self, model: &ctkvr_model::Model, rows: usize) -> Result<()> {
        let invalid =
            |option: &str, expected: String, actual: String| Err(Error::InvalidOption { option: option.into(), expected, actual });
        let wanted = Self { shape: model.spec().attention_shape(), vocab_size: model.spec().vocab_size, ..*self };
        if wanted != *self {
            return invalid("the executor's model", format!("{wanted:?}"), format!("{self:?}"));
        }
        if rows > self.max_rows {
            return invalid("prefillChunk", format!("at most {}", self.max_rows), rows.to_string());
        }
        Ok(())
    }
}
