//! One KV head's index on plain arrays, for users without a model. One thing at a time: what changes the index runs on a worker thread,
//! and a call meanwhile is refused.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ctkvr_core::{AppendInput, GivenTail, HeadIndex, HeadIndexOptions, HeadInput, ImageInput, Phase};
use napi::bindgen_prelude::{AsyncTask, Float32Array, Uint8Array, Uint32Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::centroid_index_objects::{
    JsAppendInput, JsBlockInfo, JsBuildInput, JsGivenTail, JsHeadAttention, JsLoadInput, JsProbes, JsRefineRules, JsSelection,
    JsTail, JsTailAt,
};
use crate::error::{busy_index, caught, closed, core_error, invalid_option};
use crate::position_range::JsPositionRange;

/// An index and what is going on with it. All but the change itself happens on the JavaScript thread.
struct Shared {
    /// `None` once it is freed.
    index: Mutex<Option<HeadIndex>>,
    /// A change has been asked for that has not ended.
    changing: AtomicBool,
    /// JavaScript may close an index that changes: it is freed when the change has ended.
    closed: AtomicBool,
}

impl Shared {
    fn lock(&self) -> IndexGuard<'_> {
        // A change that panicked has said so; the index is whole, for a change replaces what it has when it is done.
        IndexGuard(self.index.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Frees the index where it is closed and does not change.
    fn free_if_over(&self) {
        if self.closed.load(Ordering::Acquire) && !self.changing.load(Ordering::Acquire) {
            *self.lock().0 = None;
        }
    }
}

/// The index, until dropped. Only of one that is not freed.
struct IndexGuard<'a>(MutexGuard<'a, Option<HeadIndex>>);

impl Deref for IndexGuard<'_> {
    type Target = HeadIndex;

    fn deref(&self) -> &HeadIndex {
        self.0.as_ref().unwrap_or_else(|| unreachable!("who closed it is refused, and a change keeps it"))
    }
}

impl DerefMut for IndexGuard<'_> {
    fn deref_mut(&mut self) -> &mut HeadIndex {
        self.0.as_mut().unwrap_or_else(|| unreachable!("who closed it is refused, and a change keeps it"))
    }
}

/// `NativeCentroidIndex` of packages/native/src/binding.ts.
#[napi(js_name = "CentroidIndex")]
pub struct NativeCentroidIndex {
    shared: Arc<Shared>,
}

impl NativeCentroidIndex {
    fn of(index: HeadIndex) -> Self {
        let (changing, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { index: Mutex::new(Some(index)), changing, closed }) }
    }

    fn open(&self) -> napi::Result<&Arc<Shared>> {
        if self.shared.closed.load(Ordering::Acquire) { Err(closed("index")) } else { Ok(&self.shared) }
    }

    fn index(&self) -> napi::Result<IndexGuard<'_>> {
        let shared = self.open()?;
        if shared.changing.load(Ordering::Acquire) {
            return Err(busy_index());
        }
        Ok(shared.lock())
    }

    fn change(&self, change: Change) -> napi::Result<AsyncTask<ChangeTask>> {
        let shared = self.open()?;
        if shared.changing.swap(true, Ordering::AcqRel) {
            return Err(busy_index());
        }
        Ok(AsyncTask::new(ChangeTask { shared: Arc::clone(shared), change }))
    }
}

#[napi]
impl NativeCentroidIndex {
    /// Builds the index on a worker thread. The arrays are read there without a copy: do not change them before it resolves.
    #[napi(catch_unwind)]
    pub fn build(input: JsBuildInput) -> napi::Result<AsyncTask<Make>> {
        Ok(AsyncTask::new(Make::Build {
            keys: input.keys,
            values: input.values,
            queries: input.queries,
            head_dim: input.head_dim as usize,
            group: input.group_size as usize,
            options: (&input.options).try_into()?,
            isa: input.isa,
        }))
    }

    /// Takes up a saved index on a worker thread, which reads the arrays there without a copy.
    #[napi(catch_unwind)]
    pub fn load(input: JsLoadInput) -> AsyncTask<Make> {
        AsyncTask::new(Make::Load { image: input.image, keys: input.keys, values: input.values, isa: input.isa })
    }

    /// Stores more tokens on a worker thread.
    #[napi(catch_unwind)]
    pub fn append(&self, input: JsAppendInput) -> napi::Result<AsyncTask<ChangeTask>> {
        let phase = match input.phase.as_str() {
            "prefill" => Phase::Prefill,
            "decode" => Phase::Decode,
            other => return Err(invalid_option("phase", "prefill or decode", other)),
        };
        self.change(Change::Append { keys: input.keys, values: input.values, queries: input.queries, phase })
    }

    /// Ends a turn on a worker thread.
    #[napi(catch_unwind)]
    pub fn extend(&self) -> napi::Result<AsyncTask<ChangeTask>> {
        self.change(Change::Extend)
    }

    /// Makes a query a centroid on a worker thread.
    #[napi(catch_unwind)]
    pub fn insert(&self, query: Float32Array) -> napi::Result<AsyncTask<ChangeTask>> {
        self.change(Change::Insert(query))
    }

    /// Drops positions from `length` on.
    #[napi(catch_unwind)]
    pub fn truncate(&self, length: u32) -> napi::Result<()> {
        self.index()?.truncate(length as usize).map_err(core_error)
    }

    /// A second index with what this one holds.
    #[napi(catch_unwind)]
    pub fn fork(&self) -> napi::Result<NativeCentroidIndex> {
        Ok(Self::of(self.index()?.fork()))
    }

    /// The index as an image, written on a worker thread.
    #[napi(catch_unwind)]
    pub fn save(&self) -> napi::Result<AsyncTask<Save>> {
        Ok(AsyncTask::new(Save { index: self.index()?.fork() }))
    }

    /// Tokens stored.
    #[napi(getter, catch_unwind)]
    pub fn num_tokens(&self) -> napi::Result<u32> {
        Ok(self.index()?.num_tokens() as u32)
    }

    /// Length of a head's vector.
    #[napi(getter, catch_unwind)]
    pub fn head_dim(&self) -> napi::Result<u32> {
        Ok(self.index()?.head_dim() as u32)
    }

    /// Query heads of the KV head.
    #[napi(getter, catch_unwind)]
    pub fn group_size(&self) -> napi::Result<u32> {
        Ok(self.index()?.group() as u32)
    }

    /// Centroids that probes look at.
    #[napi(getter, catch_unwind)]
    pub fn num_centroids(&self) -> napi::Result<u32> {
        Ok(self.index()?.num_centroids() as u32)
    }

    /// Indexed positions, [start, end).
    #[napi(getter, catch_unwind)]
    pub fn region(&self) -> napi::Result<JsPositionRange> {
        Ok(self.index()?.region().into())
    }

    /// The blocks that probes look at, oldest first.
    #[napi(getter, catch_unwind)]
    pub fn blocks(&self) -> napi::Result<Vec<JsBlockInfo>> {
        let blocks = self.index()?.segments().into_iter().map(|b| JsBlockInfo {
            end: b.end as u32,
            made_at: b.made_at as u32,
            num_centroids: b.num_centroids as u32,
        });
        Ok(blocks.collect())
    }

    /// Bytes of the index and of the queries kept for it, without keys and values.
    #[napi(getter, catch_unwind)]
    pub fn index_bytes(&self) -> napi::Result<f64> {
        Ok(self.index()?.bytes() as f64)
    }

    /// How much the lists would miss, 0 to 1.
    #[napi(getter, catch_unwind)]
    pub fn volatility(&self) -> napi::Result<f64> {
        Ok(f64::from(self.index()?.volatility()))
    }

    /// Nearest similarity below which a query is unlike those of the build.
    #[napi(getter, catch_unwind)]
    pub fn similarity_floor(&self) -> napi::Result<f64> {
        Ok(f64::from(self.index()?.similarity_floor()))
    }

    /// Positions of a centroid's list, ascending.
    #[napi(catch_unwind)]
    pub fn list(&self, centroid: u32) -> napi::Result<Uint32Array> {
        self.index()?.list(centroid as usize).map(Uint32Array::new).map_err(core_error)
    }

    /// What stands for the indexed positions that are not read, as stored.
    #[napi(catch_unwind)]
    pub fn tail(&self) -> napi::Result<Option<JsTail>> {
        Ok(self.index()?.tail().map(JsTail::from))
    }

    /// The tail of all indexed positions but `candidates`, seen from a query.
    #[napi(catch_unwind)]
    pub fn tail_at(&self, query: &[f32], candidates: &[u32]) -> napi::Result<JsTailAt> {
        let (lse, value) = self.index()?.tail_at(query, candidates).map_err(core_error)?;
        Ok(JsTailAt { lse: Float32Array::new(lse), value: Float32Array::new(value) })
    }

    /// Candidates, and the positions of the heaviest clusters of the tail.
    #[napi(catch_unwind)]
    pub fn widen(&self, query: &[f32], candidates: &[u32]) -> napi::Result<Uint32Array> {
        self.index()?.widen(query, candidates).map(Uint32Array::new).map_err(core_error)
    }

    /// The nearest centroids, best first.
    #[napi(catch_unwind)]
    pub fn probe(&self, query: &[f32]) -> napi::Result<JsProbes> {
        let probes = self.index()?.probe(query).map_err(core_error)?;
        let (similarities, centroids): (Vec<f32>, Vec<u32>) = probes.into_iter().unzip();
        Ok(JsProbes { centroids: Uint32Array::new(centroids), similarities: Float32Array::new(similarities) })
    }

    /// Ascending union of lists.
    #[napi(catch_unwind)]
    pub fn candidates(&self, centroids: &[u32]) -> napi::Result<Uint32Array> {
        self.index()?.candidates(centroids).map(Uint32Array::new).map_err(core_error)
    }

    /// Exact scores.
    #[napi(catch_unwind)]
    pub fn scores(&self, query: &[f32], candidates: &[u32]) -> napi::Result<Float32Array> {
        self.index()?.scores(query, candidates).map(Float32Array::new).map_err(core_error)
    }

    /// Candidates and selected positions, ascending.
    #[napi(catch_unwind)]
    pub fn select(&self, query: &[f32]) -> napi::Result<JsSelection> {
        let (candidates, selected) = self.index()?.select(query).map_err(core_error)?;
        Ok(JsSelection { candidates: Uint32Array::new(candidates), selected: Uint32Array::new(selected) })
    }

    /// The whole decode attention of a query.
    #[napi(catch_unwind)]
    pub fn attend(&self, query: &[f32]) -> napi::Result<JsHeadAttention> {
        self.index()?.attend(query).map(JsHeadAttention::from).map_err(core_error)
    }

    /// Selection among given candidates.
    #[napi(catch_unwind)]
    pub fn select_among(&self, query: &[f32], candidates: &[u32], rules: JsRefineRules) -> napi::Result<Uint32Array> {
        let given = rules.over(candidates, None);
        self.index()?.select_among(query, &given).map(Uint32Array::new).map_err(core_error)
    }

    /// Attention over given candidates, with the tail that stands for the other keys.
    #[napi(catch_unwind)]
    pub fn attend_among(
        &self,
        query: &[f32],
        candidates: &[u32],
        rules: JsRefineRules,
        tail: Option<JsGivenTail>,
    ) -> napi::Result<JsHeadAttention> {
        let tail = tail.as_ref().map(|t| GivenTail { lse: &t.lse, value: &t.value });
        let given = rules.over(candidates, tail);
        self.index()?.attend_among(query, &given).map(JsHeadAttention::from).map_err(core_error)
    }

    /// Frees the index. Idempotent.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.free_if_over();
    }
}

/// Makes an index on a worker thread.
pub enum Make {
    Build {
        keys: Float32Array,
        values: Float32Array,
        queries: Float32Array,
        head_dim: usize,
        group: usize,
        options: HeadIndexOptions,
        isa: String,
    },
    Load {
        image: Uint8Array,
        keys: Float32Array,
        values: Float32Array,
        isa: String,
    },
}

impl Task for Make {
    type Output = HeadIndex;
    type JsValue = NativeCentroidIndex;

    fn compute(&mut self) -> napi::Result<HeadIndex> {
        caught(|| match self {
            Self::Build { keys, values, queries, head_dim, group, options, isa } => {
                let input = HeadInput { keys, values, queries, head_dim: *head_dim, group: *group, options, isa };
                HeadIndex::build(&input, &AtomicBool::new(false)).map_err(core_error)
            }
            Self::Load { image, keys, values, isa } => {
                HeadIndex::load(&ImageInput { image, keys, values, isa }).map_err(core_error)
            }
        })
    }

    fn resolve(&mut self, _env: Env, index: HeadIndex) -> napi::Result<NativeCentroidIndex> {
        Ok(NativeCentroidIndex::of(index))
    }
}

/// What can happen to an index.
pub enum Change {
    Append { keys: Float32Array, values: Float32Array, queries: Float32Array, phase: Phase },
    Extend,
    Insert(Float32Array),
}

/// A change on a worker thread.
pub struct ChangeTask {
    shared: Arc<Shared>,
    change: Change,
}

impl Task for ChangeTask {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        let go = AtomicBool::new(false);
        caught(|| {
            let mut index = self.shared.lock();
            let outcome = match &self.change {
                Change::Append { keys, values, queries, phase } => {
                    index.append(&AppendInput { keys, values, queries, phase: *phase }, &go)
                }
                Change::Extend => index.extend(&go),
                Change::Insert(query) => index.insert(query, &go),
            };
            outcome.map_err(core_error)
        })
    }

    fn resolve(&mut self, _env: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }

    /// On the JavaScript thread, before whoever waits for the promise goes on.
    fn finally(self, _env: Env) -> napi::Result<()> {
        self.shared.changing.store(false, Ordering::Release);
        self.shared.free_if_over();
        Ok(())
    }
}

/// Writes an image on a worker thread.
pub struct Save {
    index: HeadIndex,
}

impl Task for Save {
    type Output = Vec<u8>;
    type JsValue = Uint8Array;

    fn compute(&mut self) -> napi::Result<Vec<u8>> {
        caught(|| Ok(self.index.save()))
    }

    fn resolve(&mut self, _env: Env, image: Vec<u8>) -> napi::Result<Uint8Array> {
        Ok(Uint8Array::new(image))
    }
}
