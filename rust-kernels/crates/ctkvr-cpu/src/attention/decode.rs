//! Decoding heads: items of the schedule, each a stage of one (row, KV head).

use std::sync::atomic::Ordering;

use ctkvr_core::attention::decode::{HeadStep, Part};
use ctkvr_core::attention::stage_clock::{Activity, StageClock};
use ctkvr_core::retriever::{HeadSearch, HeadState};
use ctkvr_core::sequence::lifecycle::Repair;
use ctkvr_core::{AttentionShape, SelectionCounters};
use ctkvr_threads::{Stage, Taken};

use crate::attention::layer_io::LayerIo;
use crate::attention::step::{AttentionStep, StepRows, lock};

impl AttentionStep<'_> {
    /// One decode item that is ready, if there is one; whether it was done.
    pub(super) fn decode(&self, layer: usize, io: &LayerIo, thread: usize, clock: &mut StageClock) -> bool {
        let AttentionShape { num_kv_heads, head_dim: d, num_q_heads, .. } = self.shape;
        let (kernels, group) = (self.kernels, self.shape.group_size());
        let scratch = &mut self.scratch(thread).attend;
        let num_parts = self.schedule.num_parts(self.num_threads());
        let Taken::Item(item) = self.schedule.take(thread, self.num_threads(), num_parts) else { return false };
        let (rows, g) = self.decode_head(item.head);
        let kv = rows.sequence.kv_head(layer * num_kv_heads + g);
        let offset = rows.first_row * num_q_heads * d + g * group * d;
        let cell = self.decodes[item.head].get();
        let part = Part { index: item.part, count: num_parts };
        let state = self.head_state(item.head, layer);
        let retriever = state.map(|s| s.head.as_ref());
        let window = self.shape.window(layer);
        // SAFETY: an item is ready only when its head's earlier stages are done (attention needs no average of what was dropped, and runs
        // beside it); what comes in parts shares the head and writes its own, the others have it to themselves. io holds the row.
        unsafe {
            match item.stage {
                Stage::Propose => {
                    self.store(layer, io, rows, 0, g);
                    clock.lap(Activity::Store);
                    let query = std::slice::from_raw_parts(io.queries.add(offset), group * d);
                    let layout = rows.plan.layout_of(window, state);
                    let may_repair = rows.repairs_before.load(Ordering::Relaxed) < rows.plan.repair_budget;
                    let asked = HeadStep { query, group, layout, may_repair };
                    (*cell).search(kernels, &asked, |query, scratch, out| {
                        if let Some(head) = retriever {
                            rows.sequence.selector.method.search(&mut [HeadSearch { head, query, scratch, out }]);
                        }
                    });
                    if let Some(query) = (*cell).repairs() {
                        lock(&rows.repairs).push(Repair { head: layer * num_kv_heads + g, query: query.to_vec() });
                    }
                }
                Stage::Score => (*cell).score(kernels, &kv, part),
                Stage::Weigh => (*cell).weigh(kernels, part),
                Stage::Select if item.is_long => (*cell).select(kernels, retriever),
                Stage::Select => {
                    (*cell).weigh(kernels, Part::WHOLE);
                    (*cell).select(kernels, retriever);
                    (*cell).average_unselected(kernels, retriever);
                }
                Stage::AverageDropped => (*cell).average_unselected(kernels, retriever),
                Stage::Attend => (*cell).attend(kernels, &kv, part, scratch),
                Stage::Finish => {
                    let out = std::slice::from_raw_parts_mut(io.out.add(offset), group * d);
                    let audited = self.measures.audit || rows.plan.sampled_head == Some(layer * num_kv_heads + g);
                    let audit = (audited && window.is_none()).then_some(&mut scratch.scores[..]);
                    // A local layer chooses nothing: it is not counted.
                    let mut uncounted = SelectionCounters::default();
                    let counters = if window.is_some() { &mut uncounted } else { &mut *rows.counters[g].get() };
                    (*cell).finish(kernels, &kv, out, counters, audit);
                    if let Some(map) = rows.read_maps.get(g).filter(|_| window.is_none()) {
                        (*cell).add_to_read_map(kernels, &kv, &mut scratch.scores, &mut *map.get());
                    }
                }
            }
        }
        clock.lap(match item.stage {
            Stage::Propose => Activity::Probe,
            Stage::Score => Activity::Score,
            Stage::Weigh | Stage::Select | Stage::AverageDropped => Activity::Select,
            Stage::Attend => Activity::Attend,
            Stage::Finish => Activity::Merge,
        });
        if item.stage == Stage::Propose {
            // SAFETY: the head is this item's until it is announced as done.
            let union = unsafe { (*cell).searched().proposal.union_time };
            clock.reassign(union, Activity::Probe, Activity::Union);
        }
        self.schedule.finish(item);
        true
    }

    /// What a decode head of the step has indexed in a layer; `None` where everything is read.
    pub(super) fn head_state(&self, head: usize, layer: usize) -> Option<&HeadState> {
        let (rows, g) = self.decode_head(head);
        rows.sequence.indexed_head(&rows.plan, layer * self.shape.num_kv_heads + g)
    }

    /// The decode row of head i of the step, and which KV head it is.
    fn decode_head(&self, i: usize) -> (&StepRows<'_>, usize) {
        let num_kv_heads = self.shape.num_kv_heads;
        (&self.rows[i / num_kv_heads], i % num_kv_heads)
    }
}
