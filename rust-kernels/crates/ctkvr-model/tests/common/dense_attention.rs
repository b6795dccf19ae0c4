//! A plain scalar attention backend that reads every key, in f32: slow, short, and independent of ctkvr-core's own.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use ctkvr_core::{
    AttentionShape, BuildReport, Error, Result, SelectorOptions, SequenceId, SequenceMemory, SequenceRows, StepReport,
};
use ctkvr_cpu::{AttentionBackend, LayerAttention, LayerIo, Units};
use ctkvr_kernels::KvFormat;

struct Sequence {
    max_tokens: usize,
    len: usize,
    /// Per layer, f32 `[max_tokens, num_kv_heads, head_dim]`.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

/// See the module.
pub struct DenseAttention {
    shape: AttentionShape,
    sequences: RwLock<HashMap<SequenceId, Sequence>>,
    step: RwLock<Vec<SequenceRows>>,
    next_id: Mutex<u64>,
    /// Panics in the attention of this layer, to test what the engine makes of it.
    pub panics_at: Option<usize>,
}

impl DenseAttention {
    pub fn new(shape: AttentionShape) -> Self {
        Self { shape, sequences: RwLock::default(), step: RwLock::default(), next_id: Mutex::new(0), panics_at: None }
    }

    fn with<T>(&self, id: SequenceId, f: impl FnOnce(&mut Sequence) -> T) -> Result<T> {
        self.sequences.write().unwrap().get_mut(&id).map(f).ok_or(Error::UnknownSequence(id.0))
    }

    fn insert(&self, sequence: Sequence) -> SequenceId {
        let mut next = self.next_id.lock().unwrap();
        *next += 1;
        self.sequences.write().unwrap().insert(SequenceId(*next), sequence);
        SequenceId(*next)
    }
}

impl LayerAttention for DenseAttention {
    unsafe fn open(&self, _layer: usize, phase: usize, io: &LayerIo) -> Units {
        Units::of(if phase == 0 { 1 } else { io.num_rows * self.shape.num_q_heads }, 3)
    }

    unsafe fn work(&self, layer: usize, phase: usize, io: &LayerIo, units: Range<usize>, _thread: usize) -> usize {
        if self.panics_at == Some(layer) && phase == 1 && units.contains(&0) {
            panic!("asked to");
        }
        let AttentionShape { num_q_heads, num_kv_heads, head_dim, .. } = self.shape;
        let (q_width, kv_width) = (num_q_heads * head_dim, num_kv_heads * head_dim);
        if phase == 0 {
            (0..io.num_rows).for_each(|row| (0..num_kv_heads).for_each(|head| (io.prepare)(row, head)));
        }
        // SAFETY: the engine passes live buffers of these sizes.
        let (queries, keys, values) = unsafe {
            (
                std::slice::from_raw_parts(io.queries, io.num_rows * q_width),
                std::slice::from_raw_parts(io.keys, io.num_rows * kv_width),
                std::slice::from_raw_parts(io.values, io.num_rows * kv_width),
            )
        };
        let sequences = self.sequences.read().unwrap();
        for rows in self.step.read().unwrap().iter() {
            let sequence = &sequences[&rows.sequence];
            if phase == 0 {
                let (from, count) = (rows.first_row * kv_width, rows.num_rows * kv_width);
                // SAFETY: the phase has one unit; positions from `len` on are inside the reserved length.
                unsafe {
                    let at = sequence.len * kv_width;
                    let store = |to: &Vec<f32>, from: &[f32]| {
                        std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr().cast_mut().add(at), from.len());
                    };
                    store(&sequence.keys[layer], &keys[from..from + count]);
                    store(&sequence.values[layer], &values[from..from + count]);
                }
                continue;
            }
            let first = rows.first_row * num_q_heads;
            for item in units.start.max(first)..units.end.min(first + rows.num_rows * num_q_heads) {
                let (row, head) = (item / num_q_heads, item % num_q_heads);
                let kv_head = head / (num_q_heads / num_kv_heads);
                let query = &queries[row * q_width + head * head_dim..][..head_dim];
                let of = |stored: &[f32], position: usize| stored[position * kv_width + kv_head * head_dim..].as_ptr();
                let num_keys = sequence.len + row - rows.first_row + 1;
                let mut weights: Vec<f32> = (0..num_keys)
                    .map(|position| {
                        // SAFETY: `of` points at head_dim live values.
                        let key = unsafe { std::slice::from_raw_parts(of(&sequence.keys[layer], position), head_dim) };
                        query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>() / (head_dim as f32).sqrt()
                    })
                    .collect();
                let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                weights.iter_mut().for_each(|weight| *weight = (*weight - largest).exp());
                let total: f32 = weights.iter().sum();
                let mut mean = vec![0.0f32; head_dim];
                for (position, weight) in weights.iter().enumerate() {
                    // SAFETY: as above.
                    let value = unsafe { std::slice::from_raw_parts(of(&sequence.values[layer], position), head_dim) };
                    mean.iter_mut().zip(value).for_each(|(mean, value)| *mean += weight / total * value);
                }
                // SAFETY: each item writes its own part of the output.
                unsafe { std::ptr::copy_nonoverlapping(mean.as_ptr(), io.out.add(row * q_width + head * head_dim), head_dim) };
            }
        }
        units.len()
    }
}

impl AttentionBackend for DenseAttention {
    fn shape(&self) -> AttentionShape {
        self.shape
    }

    fn max_threads(&self) -> usize {
        usize::MAX
    }

    fn create_sequence(&self, max_tokens: usize, _format: KvFormat, _selector: SelectorOptions) -> Result<SequenceId> {
        let len = max_tokens * self.shape.num_kv_heads * self.shape.head_dim;
        let layers = || vec![vec![0.0; len]; self.shape.num_layers];
        Ok(self.insert(Sequence { max_tokens, len: 0, keys: layers(), values: layers() }))
    }

    fn fork_sequence(&self, sequence: SequenceId) -> Result<SequenceId> {
        let copy = self.with(sequence, |origin| Sequence {
            max_tokens: origin.max_tokens,
            len: origin.len,
            keys: origin.keys.clone(),
            values: origin.values.clone(),
        })?;
        Ok(self.insert(copy))
    }

    fn close_sequence(&self, sequence: SequenceId) {
        self.sequences.write().unwrap().remove(&sequence);
    }

    fn len(&self, sequence: SequenceId) -> Result<usize> {
        self.with(sequence, |sequence| sequence.len)
    }

    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<()> {
        self.with(sequence, |sequence| sequence.len = len)
    }

    fn set_selector(&self, sequence: SequenceId, _selector: SelectorOptions) -> Result<()> {
        self.with(sequence, |_| ())
    }

    fn indexed_range(&self, sequence: SequenceId) -> Result<(usize, usize)> {
        self.with(sequence, |_| (0, 0))
    }

    fn num_recent_queries(&self, _: SequenceId) -> ctkvr_core::Result<usize> {
        Ok(0)
    }

    fn grow_index(&self, _: SequenceId, _: usize, _: &AtomicBool) -> ctkvr_core::Result<()> {
        Ok(())
    }

    fn memory(&self, sequence: SequenceId) -> Result<SequenceMemory> {
        self.with(sequence, |sequence| SequenceMemory { kv_bytes: sequence.len, index_bytes: 0 })
    }

    fn build_index_part(&self, _: SequenceId, _: Duration, _: usize, _: &AtomicBool) -> Result<BuildReport> {
        Ok(BuildReport::default())
    }

    fn begin_step(&self, rows: &[SequenceRows], _audit: bool) -> Result<()> {
        for part in rows {
            let (len, max_tokens) = self.with(part.sequence, |sequence| (sequence.len, sequence.max_tokens))?;
            if len + part.num_rows > max_tokens {
                return Err(Error::ContextExceeded { max_tokens, needed: len + part.num_rows });
            }
        }
        *self.step.write().unwrap() = rows.to_vec();
        Ok(())
    }

    fn end_step(&self) -> StepReport {
        let rows = std::mem::take(&mut *self.step.write().unwrap());
        for part in &rows {
            self.with(part.sequence, |sequence| sequence.len += part.num_rows).unwrap();
        }
        StepReport { counters: rows.iter().map(|_| None).collect(), ..StepReport::default() }
    }

    fn abort_step(&self) {
        self.step.write().unwrap().clear();
    }
}
