//! A sequence as sections of a file (`sections.rs`): all that later steps, builds and cuts depend on, so that a restored sequence goes on with
//! the same bits, on the same kernels, as one that was never saved. In order:
//!
//! | section | content |
//! |---|---|
//! | `shape` | the model's sizes, the format of keys and values, tokens stored, the most there may be |
//! | `settings` | the method's name, what steps and builds share, and the caller's own description of the settings |
//! | `queries` | the recent queries of all layers |
//! | `prompt` | where the prompt that is being stored began, and the queries of before it |
//! | `index` | what the method keeps of every (layer, KV head), and where and when it was made |
//! | `page` | keys and values, a section for each page, of the positions stored alone |
//!
//! A build that is not finished is not in it: the next build begins anew and makes the same. Snapshots are taken between steps.

use std::io::{self, Write};
use std::sync::atomic::AtomicBool;

use ctkvr_kernels::{KvFormat, PAGE_SIZE};

use crate::error::{Error, Result};
use crate::kv::block_table::BlockTable;
use crate::options::{BuildOptions, StepOptions};
use crate::selector::SelectorOptions;
use crate::sequence::lifecycle::{EncodedHead, HeadMaker, HeadSource, HeadTask};
use crate::sequence::recent_queries::RecentQueries;
use crate::sequence::store::{PromptQueries, Sequence, SequenceIndex, most_recent_queries};
use crate::step::AttentionShape;

pub mod sections;

use sections::{FieldReader, FieldWriter, SnapshotReader, SnapshotWriter, bad};

/// Positions are u32.
const MAX_TOKENS: usize = u32::MAX as usize;
/// Room for queries is made before they are read, so that a file may ask for more than it holds: twice what 128 layers of 128 heads of 128
/// values take at the automatic number of centroids (CWE-789).
const MAX_QUERY_BYTES: usize = 8 << 30;

/// Writes a sequence; `settings` is given back by [`SequenceSnapshot::settings`]. Nobody writes to its pages meanwhile: a fork does.
///
/// # Errors
/// The writer's; one of this crate, inside the io::Error, where the pool cannot read a page.
pub fn write_sequence<W: Write>(
    sequence: &Sequence,
    shape: AttentionShape,
    settings: &[u8],
    out: &mut SnapshotWriter<W>,
) -> io::Result<()> {
    let mut fields = FieldWriter::default();
    let AttentionShape { num_layers, num_q_heads, num_kv_heads, head_dim, local: _ } = shape;
    [num_layers, num_q_heads, num_kv_heads, head_dim].into_iter().for_each(|size| fields.size(size));
    fields.size(sequence.kv.format() as usize);
    fields.size(sequence.len);
    fields.size(sequence.max_tokens);
    out.section("shape", &fields.bytes)?;

    let mut fields = FieldWriter::default();
    fields.counted(sequence.selector.method.name().as_bytes());
    named_settings(&sequence.selector).into_iter().for_each(|(_, value)| fields.f64(value));
    fields.counted(settings);
    out.section("settings", &fields.bytes)?;

    let mut fields = FieldWriter::default();
    write_queries(&sequence.recent, shape.num_indexed_layers(), &mut fields);
    out.section("queries", &fields.bytes)?;

    let mut fields = FieldWriter::default();
    let PromptQueries { start, before } = &sequence.prompt;
    fields.optional(*start);
    fields.size(usize::from(before.is_some()));
    before.iter().for_each(|before| write_queries(before, shape.num_indexed_layers(), &mut fields));
    out.section("prompt", &fields.bytes)?;

    let mut fields = FieldWriter::default();
    fields.size(usize::from(sequence.index.is_some()));
    sequence.index.iter().for_each(|index| write_index(index, &mut fields));
    out.section("index", &fields.bytes)?;

    let mut page = Vec::new();
    for first in (0..sequence.len).step_by(PAGE_SIZE) {
        page.clear();
        // SAFETY: these positions were stored, and nobody writes to them.
        let exported = unsafe { sequence.kv.export_page(first / PAGE_SIZE, PAGE_SIZE.min(sequence.len - first), &mut page) };
        exported.map_err(io::Error::other)?;
        out.section("page", &page)?;
    }
    Ok(())
}

/// Settings that all methods share, by the names of packages/core/src/selector-options.ts. Those of a method are the caller's to describe.
fn named_settings(selector: &SelectorOptions) -> [(&'static str, f64); 8] {
    let StepOptions { num_sink_tokens, recent_window, max_selected, top_p, dense_below, mass_sampling } = selector.step;
    let BuildOptions { num_queries, append_size } = selector.build;
    [
        ("numSinkTokens", num_sink_tokens as f64),
        ("recentWindow", recent_window as f64),
        ("maxSelected", max_selected as f64),
        ("topP", top_p),
        ("denseBelow", dense_below as f64),
        ("massSampling", f64::from(u8::from(mass_sampling))),
        ("numCentroids", num_queries as f64),
        ("appendSize", append_size as f64),
    ]
}

fn write_queries(queries: &RecentQueries, num_layers: usize, out: &mut FieldWriter) {
    out.size(queries.capacity());
    out.size(queries.len());
    queries.positions().for_each(|position| out.bytes.extend_from_slice(&position.to_le_bytes()));
    for layer in 0..num_layers {
        for i in 0..queries.len() {
            out.bytes.extend(queries.row(layer, i).iter().flat_map(|value| value.to_ne_bytes()));
        }
    }
}

fn write_index(index: &SequenceIndex, out: &mut FieldWriter) {
    out.size(index.start);
    out.size(index.built_at.len());
    index.built_at.iter().for_each(|&at| out.bytes.extend_from_slice(&(at as u32).to_le_bytes()));
    let mut encoded = Vec::new();
    for state in &index.heads {
        [state.end, state.made_at, state.grown_at].into_iter().for_each(|number| out.size(number));
        encoded.clear();
        state.head.encode(&mut encoded);
        out.counted(&encoded);
    }
}

/// A sequence that was read and checked, its large parts still where they were read from.
pub struct SequenceSnapshot<'a> {
    pub shape: AttentionShape,
    pub kv_format: KvFormat,
    /// Tokens stored.
    pub len: usize,
    pub max_tokens: usize,
    method: &'a str,
    /// As [`named_settings`] has them.
    numbers: Vec<f64>,
    settings: &'a [u8],
    queries: QuerySection<'a>,
    prompt_start: Option<usize>,
    before_prompt: Option<QuerySection<'a>>,
    index: Option<IndexSection<'a>>,
    /// Of [`KvPool::export`](crate::kv::pool::KvPool::export).
    pages: Vec<&'a [u8]>,
}

struct QuerySection<'a> {
    capacity: usize,
    positions: Vec<u32>,
    /// u16 `[num_indexed_layers, positions, num_q_heads * head_dim]`.
    rows: &'a [u8],
}

struct IndexSection<'a> {
    start: usize,
    built_at: Vec<u32>,
    heads: Vec<HeadSection<'a>>,
}

struct HeadSection<'a> {
    end: usize,
    made_at: usize,
    grown_at: usize,
    encoded: &'a [u8],
}

impl<'a> SequenceSnapshot<'a> {
    /// Reads the sections of a sequence of a model of this shape.
    ///
    /// # Errors
    /// `BadSnapshot` names what is damaged, or which of the sizes differs.
    pub fn read(reader: &mut SnapshotReader<'a>, shape: AttentionShape) -> Result<Self> {
        let mut fields = FieldReader::new(reader.section("shape")?);
        // Which layers are local follows from the model, which the caller has compared.
        let AttentionShape { num_layers, num_q_heads, num_kv_heads, head_dim, local: _ } = shape;
        for (field, size) in
            [("numLayers", num_layers), ("numQueryHeads", num_q_heads), ("numKvHeads", num_kv_heads), ("headDim", head_dim)]
        {
            fields.size(field, size..size + 1)?;
        }
        let format = fields.size("kvFormat", 0..2)?;
        let kv_format = if format == KvFormat::F16 as usize { KvFormat::F16 } else { KvFormat::Q8 };
        let len = fields.size("length", 0..MAX_TOKENS)?;
        let max_tokens = fields.size("maxTokens", len.max(1)..MAX_TOKENS)?;
        fields.finish("shape")?;

        let mut fields = FieldReader::new(reader.section("settings")?);
        let method = fields.text("selector")?;
        let numbers = (0..8).map(|_| fields.f64("settings")).collect::<Result<_>>()?;
        let settings = fields.counted("settings")?;
        fields.finish("settings")?;

        let mut fields = FieldReader::new(reader.section("queries")?);
        let queries = read_queries(&mut fields, shape, len)?;
        fields.finish("queries")?;

        let mut fields = FieldReader::new(reader.section("prompt")?);
        let prompt_start = fields.optional("promptStart", 0..len + 1)?;
        let has_before = fields.size("prompt", 0..2)? == 1;
        let before_prompt = has_before.then(|| read_queries(&mut fields, shape, len)).transpose()?;
        fields.finish("prompt")?;

        let mut fields = FieldReader::new(reader.section("index")?);
        let has_index = fields.size("index", 0..2)? == 1;
        let index = has_index.then(|| read_index(&mut fields, shape.num_indexed_heads(), len)).transpose()?;
        fields.finish("index")?;

        let page_shape = shape.page_shape();
        let mut pages = Vec::new();
        for first in (0..len).step_by(PAGE_SIZE) {
            let (page, expected) = (reader.section("page")?, page_shape.exported_bytes(kv_format, PAGE_SIZE.min(len - first)));
            if page.len() != expected {
                return Err(bad("page", format!("{expected} bytes"), page.len()));
            }
            pages.push(page);
        }
        Ok(Self {
            shape,
            kv_format,
            len,
            max_tokens,
            method,
            numbers,
            settings,
            queries,
            prompt_start,
            before_prompt,
            index,
            pages,
        })
    }

    /// What the caller said of the settings when it was written.
    pub fn settings(&self) -> &'a [u8] {
        self.settings
    }

    /// Makes the sequence: `kv` is an empty table of the format and shape, `selector` what [`SequenceSnapshot::settings`] says.
    ///
    /// # Errors
    /// `BadSnapshot` names the setting that differs from those it was saved with, or what is damaged; `OutOfMemory`, `Cancelled`.
    pub fn restore(
        &self,
        mut kv: BlockTable,
        selector: SelectorOptions,
        maker: &dyn HeadMaker,
        cancel: &AtomicBool,
    ) -> Result<Sequence> {
        self.check_settings(&selector)?;
        selector.check()?;
        let most = most_recent_queries(&selector, self.max_tokens);
        let make = |section: &QuerySection| section.make(self.shape, most);
        let recent = make(&self.queries)?;
        let prompt = PromptQueries { start: self.prompt_start, before: self.before_prompt.as_ref().map(make).transpose()? };
        for (i, page) in self.pages.iter().enumerate() {
            kv.import_page(PAGE_SIZE.min(self.len - i * PAGE_SIZE), page)?;
        }
        let (shape, max_tokens, len) = (self.shape, self.max_tokens, self.len);
        let mut sequence = Sequence { shape, max_tokens, len, kv, recent, prompt, selector, index: None, partial: None };
        if let Some(index) = &self.index {
            let heads = maker.make_heads(&sequence, &index.tasks(shape), None, cancel).map_err(index_error)?;
            // What the index was built with serves these settings, or it would have been dropped when they changed.
            let (start, options) = (index.start, sequence.selector.clone());
            let built_at = index.built_at.iter().map(|&at| at as usize).collect();
            sequence.index = Some(SequenceIndex { start, heads, options, built_at });
        }
        Ok(sequence)
    }

    fn check_settings(&self, selector: &SelectorOptions) -> Result<()> {
        if selector.method.name() != self.method {
            return Err(bad("selector", self.method, selector.method.name()));
        }
        for ((field, given), saved) in named_settings(selector).into_iter().zip(&self.numbers) {
            if given.to_bits() != saved.to_bits() {
                return Err(bad(field, saved, given));
            }
        }
        Ok(())
    }
}

impl QuerySection<'_> {
    /// Rings of the saved size, of at most `most` queries.
    fn make(&self, shape: AttentionShape, most: usize) -> Result<RecentQueries> {
        let row_len = shape.num_q_heads * shape.head_dim;
        let bytes = self.capacity.checked_mul(shape.num_indexed_layers() * row_len * size_of::<u16>());
        if self.capacity > most || bytes.is_none_or(|bytes| bytes > MAX_QUERY_BYTES) {
            return Err(bad("queries", format!("room for at most {most} and {MAX_QUERY_BYTES} bytes"), self.capacity));
        }
        let mut queries = RecentQueries::new(shape.num_indexed_layers(), self.capacity, row_len);
        queries.fill(&self.positions, self.rows);
        Ok(queries)
    }
}

impl IndexSection<'_> {
    fn tasks(&self, shape: AttentionShape) -> Vec<HeadTask> {
        let from = |head: &HeadSection| {
            HeadSource::Encoded(EncodedHead {
                bytes: head.encoded.to_vec(),
                region: self.start..head.end,
                made_at: head.made_at,
                grown_at: head.grown_at,
            })
        };
        self.heads.iter().enumerate().map(|(i, head)| HeadTask { head: shape.head_of_indexed(i), from: from(head) }).collect()
    }
}

fn read_queries<'a>(fields: &mut FieldReader<'a>, shape: AttentionShape, len: usize) -> Result<QuerySection<'a>> {
    let capacity = fields.size("queries", 1..MAX_TOKENS)?;
    let count = fields.size("queries", 0..capacity + 1)?;
    let positions = fields.ascending("queries", count, len)?;
    let row_bytes = shape.num_indexed_layers() * shape.num_q_heads * shape.head_dim * size_of::<u16>();
    Ok(QuerySection { capacity, positions, rows: fields.take("queries", count, row_bytes)? })
}

fn read_index<'a>(fields: &mut FieldReader<'a>, num_heads: usize, len: usize) -> Result<IndexSection<'a>> {
    let start = fields.size("index start", 0..len + 1)?;
    let num_built = fields.size("builtAt", 1..len + 1)?;
    let built_at = fields.ascending("builtAt", num_built, len + 1)?;
    let mut heads = Vec::new();
    for _ in 0..num_heads {
        let end = fields.size("index end", start + 1..len + 1)?;
        let made_at = fields.size("index madeAt", end..len + 1)?;
        let grown_at = fields.size("index grownAt", 0..len + 1)?;
        heads.push(HeadSection { end, made_at, grown_at, encoded: fields.counted("index head")? });
    }
    Ok(IndexSection { start, built_at, heads })
}

/// What methods say of bytes that are not theirs, or of keys that no model stores.
fn index_error(error: Error) -> Error {
    match error {
        Error::BadIndexImage { field, expected, actual } => Error::BadSnapshot { field, expected, actual },
        Error::NonFinite { what, .. } => bad(what, "finite numbers", "others"),
        Error::ShapeMismatch { what, expected, actual, .. } => bad(what, expected, actual),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::ctkvr::Ctkvr;
    use crate::kv::host_pool::HostKvPool;

    const SHAPE: AttentionShape = AttentionShape { num_layers: 2, num_q_heads: 4, num_kv_heads: 2, head_dim: 32, local: None };

    fn empty() -> Sequence {
        let pool = Arc::new(HostKvPool::new(SHAPE.page_shape(), None));
        let selector =
            SelectorOptions { step: StepOptions::default(), build: BuildOptions::default(), method: Arc::new(Ctkvr::default()) };
        Sequence::new(SHAPE, BlockTable::new(pool, KvFormat::Q8), 100, selector)
    }

    #[test]
    fn sizes_of_another_model_are_refused_by_name() {
        let mut out = SnapshotWriter::new(Vec::new()).unwrap();
        write_sequence(&empty(), SHAPE, b"settings", &mut out).unwrap();
        let (bytes, _) = out.finish().unwrap();
        let read = |shape| SequenceSnapshot::read(&mut SnapshotReader::new(&bytes)?, shape);
        let same = read(SHAPE).unwrap();
        assert_eq!((same.len, same.max_tokens, same.kv_format, same.settings()), (0, 100, KvFormat::Q8, &b"settings"[..]));
        for (field, shape) in [
            ("numLayers", AttentionShape { num_layers: 3, ..SHAPE }),
            ("numQueryHeads", AttentionShape { num_q_heads: 2, ..SHAPE }),
            ("numKvHeads", AttentionShape { num_kv_heads: 4, ..SHAPE }),
            ("headDim", AttentionShape { head_dim: 64, ..SHAPE }),
        ] {
            match read(shape).err() {
                Some(Error::BadSnapshot { field: refused, .. }) => assert_eq!(refused, field),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
