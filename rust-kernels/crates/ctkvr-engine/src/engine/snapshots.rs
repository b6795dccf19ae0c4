//! Sequences saved to files and restored, in this process or another one. A file is a snapshot of ctkvr-core behind a section of the engine's
//! own: whose model and arithmetic it is of, the tokens, and the sampler.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::sequence::snapshot::sections::{FieldReader, FieldWriter, SnapshotReader, SnapshotWriter, bad};
use ctkvr_core::sequence::snapshot::{SequenceSnapshot, write_sequence};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{SelectorOptions, SequenceId};
use ctkvr_kernels::KvFormat;
use ctkvr_model::{MappedFile, Model};

use super::saved_sampler::SavedSampler;
use super::{Engine, MAX_SEQUENCE_TOKENS};
use crate::atomic_file;
use crate::sequence_table::{Entry, Loan, Place, lock};
use crate::{Error, Result};

/// A sequence that was read from a file.
#[derive(Debug, Clone)]
pub struct RestoredSequence {
    pub sequence: SequenceId,
    pub selector: SelectorOptions,
    pub max_tokens: usize,
    pub kv_format: KvFormat,
    /// Whether it was saved by an engine of the same [`crate::Executor::arithmetic`]: then what follows has the same bits as if it had never
    /// been saved.
    pub same_arithmetic: bool,
    pub saved_arithmetic: String,
}

/// What the engine knows of a sequence.
struct EngineSection<'a> {
    arithmetic: &'a str,
    tokens: Vec<i32>,
    sampler: SavedSampler,
}

impl Engine {
    /// Writes a sequence to a file, which replaces what was there once it is whole; returns its bytes. Other operations go on while it is
    /// written. `settings` describes the sequence's selector to [`Engine::restore_sequence`]. An unfinished build is not saved: the next
    /// one makes the same.
    ///
    /// # Errors
    /// `UnknownSequence`, `Busy`; `FileUnwritable`, `DiskFull`, `DeviceLost`: the old file is as it was.
    pub fn save_sequence(&self, sequence: SequenceId, path: &Path, settings: &[u8]) -> Result<u64> {
        let (frozen, own) = self.freeze(sequence)?;
        let shape = self.capabilities.shape;
        let written = atomic_file::replace(path, |file| {
            let mut out = SnapshotWriter::new(file)?;
            out.section("engine", &own)?;
            write_sequence(&frozen, shape, settings, &mut out)?;
            Ok(out.finish()?.1)
        });
        written.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull { path: path.into() },
            _ => match error.downcast::<ctkvr_core::Error>() {
                Ok(of_the_pool) => of_the_pool.into(),
                Err(error) => Error::FileUnwritable { path: path.into(), reason: error.to_string() },
            },
        })
    }

    /// A sequence as it is now, its pages shared, and the engine's section.
    fn freeze(&self, sequence: SequenceId) -> Result<(Sequence, Vec<u8>)> {
        let _run = self.lock_run("save")?;
        let loan = Loan::take(&self.table, [sequence].into_iter())?;
        let frozen = loan.sequences[0].sequence.fork();
        let table = lock(&self.table);
        let entry = table.get(sequence);
        let own = entry.map(|entry| self.engine_section(entry));
        // Before the loan, which locks the table again.
        drop(table);
        Ok((frozen, own?))
    }

    fn engine_section(&self, entry: &Entry) -> Vec<u8> {
        let mut fields = FieldWriter::default();
        fields.bytes.extend_from_slice(&self.model.fingerprint().0.to_le_bytes());
        fields.counted(model_name(&self.model).as_bytes());
        fields.counted(self.arithmetic.as_bytes());
        fields.size(entry.tokens.len());
        entry.tokens.iter().for_each(|token| fields.bytes.extend_from_slice(&token.to_le_bytes()));
        SavedSampler::of(&entry.sampler).write(&mut fields);
        fields.bytes
    }

    /// A sequence as it was saved. `selector` makes its settings of what [`Engine::save_sequence`] was given. The file is only read; it may be
    /// damaged or made up.
    ///
    /// # Errors
    /// `FileNotFound`, `FileUnreadable`; `BadSnapshot` when the file is damaged, of another version, of another model (both are named), or when
    /// `selector` made other settings; `OutOfMemory`, `Busy`, `Cancelled`, and what `selector` refuses.
    pub fn restore_sequence(
        &self,
        path: &Path,
        selector: &dyn Fn(&[u8]) -> Result<SelectorOptions>,
        cancel: &AtomicBool,
    ) -> Result<RestoredSequence> {
        let file = MappedFile::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::FileNotFound { path: path.into() },
            _ => Error::FileUnreadable { path: path.into(), reason: error.to_string() },
        })?;
        let restored = self.restore_bytes(file.bytes(), selector, cancel);
        restored.map_err(|error| match error {
            Error::BadSnapshot { field, expected, actual, .. } => Error::BadSnapshot { path: path.into(), field, expected, actual },
            other => other,
        })
    }

    fn restore_bytes(
        &self,
        bytes: &[u8],
        selector: &dyn Fn(&[u8]) -> Result<SelectorOptions>,
        cancel: &AtomicBool,
    ) -> Result<RestoredSequence> {
        let mut reader = SnapshotReader::new(bytes)?;
        let own = self.read_engine_section(reader.section("engine")?)?;
        let snapshot = SequenceSnapshot::read(&mut reader, self.capabilities.shape)?;
        reader.finish()?;
        let max_tokens = snapshot.max_tokens;
        if own.tokens.len() != snapshot.len {
            return Err(bad("tokens", snapshot.len, own.tokens.len()).into());
        }
        if max_tokens > MAX_SEQUENCE_TOKENS {
            return Err(bad("maxTokens", format!("at most {MAX_SEQUENCE_TOKENS}"), max_tokens).into());
        }
        snapshot.kv_format.check(self.capabilities.shape.head_dim)?;
        let selector = selector(snapshot.settings())?;
        let sampler = own.sampler.resume()?;
        let sequence = {
            let run = self.lock_run("restore")?;
            let kv = BlockTable::new(Arc::clone(&self.pool), snapshot.kv_format);
            snapshot.restore(kv, selector.clone(), &*run.executor, cancel)?
        };
        let entry = Entry { max_tokens, tokens: own.tokens, sampler, place: Place::Here(Box::new(sequence)) };
        Ok(RestoredSequence {
            sequence: lock(&self.table).add(entry),
            selector,
            max_tokens,
            kv_format: snapshot.kv_format,
            same_arithmetic: own.arithmetic == self.arithmetic,
            saved_arithmetic: own.arithmetic.into(),
        })
    }

    fn read_engine_section<'a>(&self, bytes: &'a [u8]) -> Result<EngineSection<'a>> {
        let mut fields = FieldReader::new(bytes);
        let fingerprint = fields.take("model", 1, 16)?;
        let name = fields.text("model")?;
        let ours = self.model.fingerprint();
        if fingerprint != ours.0.to_le_bytes() {
            let mut saved = [0; 16];
            saved.copy_from_slice(fingerprint);
            let saved = ctkvr_model::Fingerprint(u128::from_le_bytes(saved));
            return Err(bad("model", format!("{name} ({saved})"), format!("{} ({ours})", model_name(&self.model))).into());
        }
        let arithmetic = fields.text("arithmetic")?;
        let count = fields.size("tokens", 0..MAX_SEQUENCE_TOKENS + 1)?;
        let (words, _) = fields.take("tokens", count, size_of::<i32>())?.as_chunks();
        let tokens: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
        tokens.iter().try_for_each(|token| self.model.tokenizer().check_token(*token))?;
        let sampler = SavedSampler::read(&mut fields)?;
        fields.finish("engine")?;
        Ok(EngineSection { arithmetic, tokens, sampler })
    }
}

/// What people call it.
fn model_name(model: &Model) -> &str {
    let info = model.info();
    info.name.as_deref().unwrap_or(&info.architecture)
}
