//! The attention of one layer: rows are stored, then each attends to what it may, or to what its sequence's selector chooses.

use ctkvr_core::attention::alone::{finish_alone, select_alone};
use ctkvr_core::attention::attend::PASS;
use ctkvr_core::attention::decode::{HeadStep, Layout};
use ctkvr_core::attention::read_map::PASSAGE;
use ctkvr_core::retriever::{HeadSearch, HeadState};
use ctkvr_core::sequence::decode_plan::DecodePlan;
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_core::{AttentionShape, Phase, SelectionCounters};
use ctkvr_engine::{Batch, BatchRows, Measures, SequenceOutput};
use ctkvr_kernels::Kernels;

use crate::layers::Rows;

/// A layer's queries, keys and values, after rotary embedding: rows of `[heads, head_dim]`.
pub(crate) struct LayerRows {
    pub queries: Rows,
    pub keys: Rows,
    pub values: Rows,
}

pub(crate) struct Attention {
    pub shape: AttentionShape,
    /// Scalar ones.
    pub kernels: &'static Kernels,
}

/// What one head of one row does.
struct HeadWork<'a> {
    head: usize,
    layout: Layout,
    state: Option<&'a HeadState>,
    may_repair: bool,
    audit: bool,
}

/// What a head's work adds to.
struct Told<'a> {
    counters: &'a mut SelectionCounters,
    repairs: &'a mut Vec<Repair>,
    /// Where its attention goes, f32, one for each passage.
    read_map: Option<&'a mut [f32]>,
}

impl Attention {
    /// Stores every row of the batch and attends for it: rows of `[num_q_heads, head_dim]`. `outputs`, one for each sequence, get counters and
    /// repairs.
    pub fn attend(&self, layer: usize, batch: &mut Batch, rows: &LayerRows, outputs: &mut [SequenceOutput]) -> Rows {
        let measures = batch.measures;
        let mut attended = Rows::new();
        for (of, output) in batch.sequences.iter_mut().zip(outputs) {
            self.store(layer, of, rows);
            match of.append.phase {
                Phase::Decode => attended.push(self.decode(layer, of, measures, rows, output)),
                Phase::Prefill => attended.extend((0..of.append.num_rows).map(|i| self.prefill(layer, of, i, rows))),
            }
        }
        attended
    }

    /// Keys and values into their pages, queries to the recent ones.
    fn store(&self, layer: usize, of: &mut BatchRows, rows: &LayerRows) {
        let AttentionShape { num_kv_heads, head_dim: d, .. } = self.shape;
        for (i, row) in of.rows().enumerate() {
            for g in 0..num_kv_heads {
                let kv = of.sequence.kv_head(layer * num_kv_heads + g);
                let (key, value) = (&rows.keys[row][g * d..][..d], &rows.values[row][g * d..][..d]);
                // SAFETY: the batch prepared the position for this sequence alone; both are head_dim values.
                unsafe { kv.store(self.kernels, of.sequence.len + i, key.as_ptr(), value.as_ptr()) };
            }
            if let Some(layer) = self.shape.indexed_layer(layer).filter(|_| i >= of.append.queries.skip) {
                let slot = of.sequence.recent.write_slot(layer, &of.append.queries, i);
                // SAFETY: the batch made the rings this sequence's own; a slot holds a row of queries.
                let slot = unsafe { std::slice::from_raw_parts_mut(slot, rows.queries[row].len()) };
                self.kernels.narrow(&rows.queries[row], slot);
            }
        }
    }

    /// Row i of some rows of a prompt attends to everything up to itself that the layer sees.
    fn prefill(&self, layer: usize, of: &BatchRows, i: usize, rows: &LayerRows) -> Vec<f32> {
        let len = of.sequence.len + i + 1;
        let layout = Layout::local(len, self.shape.window(layer).unwrap_or(len));
        let query = &rows.queries[of.first_row + i];
        let mut counters = SelectionCounters::default();
        let work = |head| HeadWork { head, layout, state: None, may_repair: false, audit: false };
        let mut attended = Vec::new();
        for head in self.heads(layer) {
            let told = Told { counters: &mut counters, repairs: &mut Vec::new(), read_map: None };
            attended.extend(self.head(of, &work(head), query, told));
        }
        attended
    }

    /// A decoded row attends to what is chosen.
    fn decode(&self, layer: usize, of: &BatchRows, measures: Measures, rows: &LayerRows, output: &mut SequenceOutput) -> Vec<f32> {
        let plan: DecodePlan = of.sequence.decode_plan();
        let may_repair = output.repairs.len() < plan.repair_budget;
        let window = self.shape.window(layer);
        // A local layer chooses nothing: it is not counted.
        let mut uncounted = SelectionCounters::default();
        let of_sequence = output.counters.get_or_insert_default();
        let counters = if window.is_some() { &mut uncounted } else { of_sequence };
        let measures = if window.is_some() { Measures::NONE } else { measures };
        let mut read_map = measures.read_map.then(|| vec![0.0; plan.layout.len.div_ceil(PASSAGE)]);
        let mut attended = Vec::new();
        for head in self.heads(layer) {
            let state = of.sequence.indexed_head(&plan, head);
            let layout = plan.layout_of(window, state);
            let work = HeadWork { head, layout, state, may_repair, audit: measures.audit || plan.sampled_head == Some(head) };
            let told = Told { counters, repairs: &mut output.repairs, read_map: read_map.as_deref_mut() };
            attended.extend(self.head(of, &work, &rows.queries[of.first_row], told));
        }
        if let Some(map) = read_map {
            let num_heads = (self.shape.num_indexed_layers() * self.shape.num_q_heads) as f32;
            let mean = output.read_map.get_or_insert_with(|| vec![0.0; map.len()]);
            mean.iter_mut().zip(map).for_each(|(mean, sum)| *mean += sum / num_heads);
        }
        attended
    }

    fn heads(&self, layer: usize) -> std::ops::Range<usize> {
        layer * self.shape.num_kv_heads..(layer + 1) * self.shape.num_kv_heads
    }

    /// One KV head's query heads, of a row of queries.
    fn head(&self, of: &BatchRows, work: &HeadWork, row: &[f32], told: Told) -> Vec<f32> {
        let (kernels, group) = (self.kernels, self.shape.group_size());
        let len = group * self.shape.head_dim;
        let query = &row[work.head % self.shape.num_kv_heads * len..][..len];
        let kv = &of.sequence.kv_head(work.head);
        let retriever = work.state.map(|state| state.head.as_ref());
        let step = HeadStep { query, group, layout: work.layout, may_repair: work.may_repair };
        let mut decode = select_alone(kernels, kv, &step, retriever, |query, scratch, out| {
            if let Some(head) = retriever {
                of.sequence.selector.method.search(&mut [HeadSearch { head, query, scratch, out }]);
            }
        });
        if let Some(query) = decode.repairs() {
            told.repairs.push(Repair { head: work.head, query: query.to_vec() });
        }
        let output = finish_alone(kernels, kv, &mut decode, told.counters, work.audit);
        if let Some(passages) = told.read_map {
            decode.add_to_read_map(kernels, kv, &mut vec![0.0; group * PASS], passages);
        }
        output
    }
}
