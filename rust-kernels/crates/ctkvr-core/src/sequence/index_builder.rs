//! Makes states of heads from keys, values and queries in this process's memory.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ctkvr_kernels::Kernels;

use crate::error::{Error, Result};
use crate::kv::head_kv::HeadKv;
use crate::retriever::{BuildInput, HeadState};
use crate::sequence::head_plan::{HeadPlan, Planned, Planner};
use crate::sequence::lifecycle::{EncodedHead, HeadMaker, HeadTask};
use crate::sequence::store::Sequence;
use crate::step::AttentionShape;

/// A head's keys and values in this process's memory, of every stored position: `layer * num_kv_heads + kv_head`.
pub type KvOf<'a> = dyn Fn(usize) -> HeadKv<'a> + Sync + 'a;

/// Makes states of heads of sequences of one model, on the calling thread and some more.
#[derive(Clone, Copy)]
pub struct IndexBuilder {
    pub shape: AttentionShape,
    pub kernels: &'static Kernels,
    pub num_threads: usize,
}

impl HeadMaker for IndexBuilder {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> Result<Vec<HeadState>> {
        let stored = Stored { sequence, kv: &|head| sequence.kv_head(head) };
        self.make_heads_of(&stored, tasks, deadline, cancel)
    }
}

/// A sequence, and where its keys and values are in this process's memory.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    pub sequence: &'a Sequence,
    pub kv: &'a KvOf<'a>,
}

impl IndexBuilder {
    /// [`HeadMaker::make_heads`] of a sequence whose pages may be elsewhere: `stored.kv` is asked for the tasks' heads alone.
    ///
    /// # Errors
    /// As that.
    pub fn make_heads_of(
        &self,
        stored: &Stored<'_>,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> Result<Vec<HeadState>> {
        let planner = Planner { shape: self.shape, kernels: self.kernels, sequence: stored.sequence };
        in_parallel(tasks.len(), self.num_threads, deadline, |i| match planner.plan(&tasks[i]) {
            Planned::Stays(state) => Ok(state),
            Planned::Made(plan) => self.made_head(stored, &plan, cancel),
            Planned::Decoded(encoded) => self.decoded_head(stored, tasks[i].head, encoded, cancel),
        })
    }

    fn made_head(&self, stored: &Stored, plan: &HeadPlan, cancel: &AtomicBool) -> Result<HeadState> {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let input = self.build_input(stored, plan.head, plan.region.clone(), &plan.queries, plan.len, cancel);
        let input = BuildInput { grown_at: plan.grown_at, ..input };
        Ok(match &plan.before {
            None => plan.state(stored.sequence.selector.method.build(&input)?),
            Some(before) => before.head.extended(&input)?.map_or_else(|| before.clone(), |head| plan.state(head)),
        })
    }

    /// What one (layer, KV head)'s state is built or grown from when `len` tokens are stored.
    fn build_input<'b, 'a: 'b>(
        &'b self,
        stored: &Stored<'a>,
        head: usize,
        region: std::ops::Range<usize>,
        queries: &'b [f32],
        len: usize,
        cancel: &'b AtomicBool,
    ) -> BuildInput<'b> {
        let kv = (stored.kv)(head);
        BuildInput {
            kernels: self.kernels,
            layer: head / self.shape.num_kv_heads,
            keys: kv.keys(0, len),
            values: kv.values(0, len),
            region,
            queries,
            group: self.shape.group_size(),
            grown_at: len,
            options: stored.sequence.selector.build,
            cancel,
        }
    }

    fn decoded_head(&self, stored: &Stored, i: usize, encoded: &EncodedHead, cancel: &AtomicBool) -> Result<HeadState> {
        let EncodedHead { bytes, region, made_at, grown_at } = encoded;
        let (end, made_at, grown_at) = (region.end, *made_at, *grown_at);
        let input = self.build_input(stored, i, region.clone(), &[], made_at, cancel);
        let head = stored.sequence.selector.method.decode(bytes, &BuildInput { grown_at, ..input })?;
        Ok(HeadState { head, end, made_at, grown_at })
    }
}

/// Runs `work` for `0..count` on some threads, in order, and returns what it gave; an error stops what has not begun. After `deadline`
/// nothing more begins, so that the last ones may be missing; the first is not.
pub fn in_parallel<T: Send>(
    count: usize,
    num_threads: usize,
    deadline: Option<Instant>,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<Result<T>>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let run = || {
        while !stop.load(Ordering::Relaxed) {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            let result = work(i);
            if result.is_err() || deadline.is_some_and(|at| Instant::now() >= at) {
                stop.store(true, Ordering::Relaxed);
            }
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    if num_threads <= 1 || count <= 1 {
        run();
    } else {
        std::thread::scope(|scope| (0..num_threads.min(count)).for_each(|_| drop(scope.spawn(run))));
    }
    results.into_iter().map_while(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}
