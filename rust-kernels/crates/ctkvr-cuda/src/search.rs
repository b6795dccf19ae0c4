//! CTkvr's search and the choice among its candidates, for all slots of a layer: nine launches, none of which depends on a number that the host
//! knows of a token, so that a graph of them serves every token. Memory is taken once, for sizes that hold every head.

use ctkvr_kernels::KvFormat;

use crate::buffer::{DeviceBuffer, PinnedBuffer};
use crate::device::Device;
use crate::error::Result;
use crate::head_image::HeadSizes;
use crate::launch::clusters::{self, Clusters};
use crate::launch::join::{Join, words_of};
use crate::launch::probe::Probe;
use crate::launch::score::{self, Score};
use crate::launch::search_state::{SlotSearch, Total};
use crate::launch::select::Select;
use crate::launch::slot::SlotLayout;
use crate::span::Span;
use crate::stream::Stream;

/// What a search's memory has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchSizes {
    /// Rows times KV heads.
    pub slots: usize,
    pub num_kv_heads: usize,
    /// Query heads of a KV head.
    pub group: usize,
    pub head_dim: usize,
    /// The most of any head.
    pub most: HeadSizes,
}

impl SearchSizes {
    /// Whether a head of these sizes can be searched. Nobody may launch with one that cannot.
    pub fn hold(&self, head: &HeadSizes) -> bool {
        let HeadSizes { region, num_centroids, num_probes, num_clusters } = self.most;
        head.region <= region
            && head.num_centroids <= num_centroids
            && head.num_probes <= num_probes
            && head.num_clusters <= num_clusters
    }

    /// Bytes that a [`SearchMemory`] takes.
    pub fn bytes(&self) -> usize {
        let Self { slots, group, head_dim, most, .. } = *self;
        let HeadSizes { region, num_centroids, num_probes, num_clusters } = most;
        let chunks = clusters::chunks_of(num_clusters);
        // Similarities and probes; marks; what is left, shares, heaviest, weights; candidates, selected, weights, scores; partial sums of values;
        // tickets, counts, kinds; the tail.
        let words = num_centroids
            + num_probes
            + words_of(region)
            + num_clusters * (3 + group)
            + region * (3 + group)
            + chunks * group * (head_dim + 1)
            + 3
            + group * (1 + head_dim);
        let totals = group * (score::chunks_of(region) + 2);
        slots * (words * size_of::<u32>() + totals * size_of::<Total>())
    }
}

/// Where candidates are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    Device,
    /// In memory that the host reads as well: of a [`SearchMemory::with_pinned_lists`].
    Pinned,
}

/// Memory of the searches of one layer, used again in the next.
pub struct SearchMemory {
    sizes: SearchSizes,
    similarities: DeviceBuffer<f32>,
    probes: DeviceBuffer<u32>,
    marks: DeviceBuffer<u32>,
    left: DeviceBuffer<u32>,
    candidates: DeviceBuffer<u32>,
    pinned_candidates: Option<PinnedBuffer<u32>>,
    cluster_weights: DeviceBuffer<f32>,
    shares: DeviceBuffer<f32>,
    heaviest: DeviceBuffer<u32>,
    scores: DeviceBuffer<f32>,
    score_partials: DeviceBuffer<Total>,
    totals: DeviceBuffer<Total>,
    weights: DeviceBuffer<f32>,
    rest_partials: DeviceBuffer<f32>,
    tickets: DeviceBuffer<u32>,
    selected: DeviceBuffer<u32>,
    counts: DeviceBuffer<u32>,
    dropped: DeviceBuffer<Total>,
    tail_kinds: DeviceBuffer<u32>,
    tail_lse: DeviceBuffer<f32>,
    tail_value: DeviceBuffer<f32>,
}

/// One layer's searches.
#[derive(Clone, Copy)]
pub struct LayerSearch {
    /// `[slots]`: [`crate::head_image::HeadImage::address`], or `NO_HEAD`.
    pub heads: Span<u64>,
    /// `[slots]`. Regions are those of the heads.
    pub layouts: Span<SlotLayout>,
    /// f32 `[slots, group, head_dim]`, after rotary embedding.
    pub queries: Span<f32>,
    /// `[rows]`: repairs of each in this token so far; this layer's are added behind its searches. 0 before the first layer.
    pub repairs: Span<u32>,
    /// `[rows]`: how many a token may have.
    pub repair_budgets: Span<u32>,
    /// `[slots]`: written.
    pub searches: Span<SlotSearch>,
    /// Of every sequence's keys.
    pub format: KvFormat,
    pub lists: Lists,
}

/// What attention reads of the choice.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    /// `[slots, stride]`: positions, ascending.
    pub positions: Span<u32>,
    pub stride: usize,
    /// `[slots]`: how many.
    pub counts: Span<u32>,
    /// `[slots]`: [`crate::launch::merge::TailKind`].
    pub tail_kinds: Span<u32>,
    /// f32 `[slots, group]`: of a given tail.
    pub tail_lse: Span<f32>,
    /// f32 `[slots, group, head_dim]`: 0 where there is no tail.
    pub tail_value: Span<f32>,
    /// `[slots, group]`: what was scored and not selected; (-infinity, 0) where nothing is.
    pub dropped: Span<Total>,
}

impl SearchMemory {
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(device: &Device, sizes: SearchSizes) -> Result<Self> {
        let SearchSizes { slots, group, head_dim, most, .. } = sizes;
        let HeadSizes { region, num_centroids, num_probes, num_clusters } = most;
        Ok(Self {
            sizes,
            similarities: DeviceBuffer::new(device, slots * num_centroids)?,
            probes: DeviceBuffer::new(device, slots * num_probes)?,
            marks: DeviceBuffer::new(device, slots * words_of(region))?,
            left: DeviceBuffer::new(device, slots * num_clusters)?,
            candidates: DeviceBuffer::new(device, slots * region)?,
            pinned_candidates: None,
            cluster_weights: DeviceBuffer::new(device, slots * group * num_clusters)?,
            shares: DeviceBuffer::new(device, slots * num_clusters)?,
            heaviest: DeviceBuffer::new(device, slots * num_clusters)?,
            scores: DeviceBuffer::new(device, slots * group * region)?,
            score_partials: DeviceBuffer::new(device, slots * score::chunks_of(region) * group)?,
            totals: DeviceBuffer::new(device, slots * group)?,
            weights: DeviceBuffer::new(device, slots * region)?,
            rest_partials: DeviceBuffer::new(device, slots * clusters::chunks_of(num_clusters) * group * (head_dim + 1))?,
            tickets: DeviceBuffer::zeroed(device, slots)?,
            selected: DeviceBuffer::new(device, slots * region)?,
            counts: DeviceBuffer::new(device, slots)?,
            dropped: DeviceBuffer::new(device, slots * group)?,
            tail_kinds: DeviceBuffer::new(device, slots)?,
            tail_lse: DeviceBuffer::new(device, slots * group)?,
            tail_value: DeviceBuffer::new(device, slots * group * head_dim)?,
        })
    }

    /// One whose lists can be in host memory as well.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn with_pinned_lists(device: &Device, sizes: SearchSizes) -> Result<Self> {
        let pinned = PinnedBuffer::new(device, sizes.slots * sizes.most.region)?;
        Ok(Self { pinned_candidates: Some(pinned), ..Self::new(device, sizes)? })
    }

    pub fn sizes(&self) -> &SearchSizes {
        &self.sizes
    }

    /// Where a layer's candidates are listed.
    fn lists(&self, layer: &LayerSearch) -> Span<u32> {
        match layer.lists {
            Lists::Device => self.candidates.span(),
            Lists::Pinned => self.pinned().span(),
        }
    }

    fn pinned(&self) -> &PinnedBuffer<u32> {
        self.pinned_candidates.as_ref().expect("made with pinned lists")
    }

    /// Searches and chooses: [`SearchMemory::find`], then [`SearchMemory::refine`].
    ///
    /// # Errors
    /// `Length` when spans do not fit the sizes; as launches.
    pub fn search(&self, device: &Device, stream: &Stream, layer: &LayerSearch) -> Result<()> {
        self.find(device, stream, layer)?;
        self.refine(device, stream, layer)
    }

    /// The candidates of every slot whose head is on the device, and what stands for the others.
    ///
    /// # Errors
    /// As [`SearchMemory::search`].
    pub fn find(&self, device: &Device, stream: &Stream, layer: &LayerSearch) -> Result<()> {
        let (join, clusters) = (self.join(layer), self.clusters(layer));
        self.probe(layer).launch(device, stream)?;
        clusters.launch_scores(device, stream)?;
        join.launch_lists(device, stream)?;
        clusters.launch_weights(device, stream)?;
        join.launch_marked(device, stream)
    }

    /// Scores and choice, and the mean value of the rest.
    ///
    /// # Errors
    /// As [`SearchMemory::search`].
    pub fn refine(&self, device: &Device, stream: &Stream, layer: &LayerSearch) -> Result<()> {
        self.score(layer).launch(device, stream)?;
        self.select(layer).launch(device, stream)?;
        self.clusters(layer).launch_rest(device, stream)
    }

    /// Candidates of a slot of a layer with pinned lists, when [`SearchMemory::find`] is done: as many of these positions as its search says.
    ///
    /// # Panics
    /// When it was made without.
    pub fn listed(&self, slot: usize) -> &[u32] {
        let stride = self.sizes.most.region;
        &self.pinned().as_slice()[slot * stride..(slot + 1) * stride]
    }

    /// What attention reads, after [`SearchMemory::refine`].
    pub fn chosen(&self) -> Chosen {
        Chosen {
            positions: self.selected.span(),
            stride: self.sizes.most.region,
            counts: self.counts.span(),
            tail_kinds: self.tail_kinds.span(),
            tail_lse: self.tail_lse.span(),
            tail_value: self.tail_value.span(),
            dropped: self.dropped.span(),
        }
    }

    /// First stage.
    pub fn probe(&self, layer: &LayerSearch) -> Probe {
        let SearchSizes { num_kv_heads, group, head_dim, most, .. } = self.sizes;
        Probe {
            heads: layer.heads,
            layouts: layer.layouts,
            queries: layer.queries,
            repairs: layer.repairs,
            repair_budgets: layer.repair_budgets,
            similarities: self.similarities.span(),
            probes: self.probes.span(),
            searches: layer.searches,
            num_kv_heads,
            group,
            head_dim,
            max_centroids: most.num_centroids,
            max_probes: most.num_probes,
        }
    }

    /// Lists, and all that is marked.
    pub fn join(&self, layer: &LayerSearch) -> Join {
        let SearchSizes { num_kv_heads, most, .. } = self.sizes;
        Join {
            heads: layer.heads,
            layouts: layer.layouts,
            probes: self.probes.span(),
            marks: self.marks.span(),
            left: self.left.span(),
            candidates: self.lists(layer),
            repairs: layer.repairs,
            searches: layer.searches,
            num_kv_heads,
            max_probes: most.num_probes,
            max_clusters: most.num_clusters,
            max_region: most.region,
        }
    }

    /// Clusters, and the rest.
    pub fn clusters(&self, layer: &LayerSearch) -> Clusters {
        let SearchSizes { group, head_dim, most, .. } = self.sizes;
        Clusters {
            heads: layer.heads,
            layouts: layer.layouts,
            queries: layer.queries,
            weights: self.cluster_weights.span(),
            left: self.left.span(),
            shares: self.shares.span(),
            heaviest: self.heaviest.span(),
            marks: self.marks.span(),
            tail_lse: self.tail_lse.span(),
            scores: self.scores.span(),
            totals: self.totals.span(),
            partials: self.rest_partials.span(),
            tickets: self.tickets.span(),
            tail_value: self.tail_value.span(),
            searches: layer.searches,
            group,
            head_dim,
            max_clusters: most.num_clusters,
            max_region: most.region,
        }
    }

    /// Scores.
    pub fn score(&self, layer: &LayerSearch) -> Score {
        let SearchSizes { group, head_dim, most, .. } = self.sizes;
        Score {
            layouts: layer.layouts,
            searches: layer.searches,
            queries: layer.queries,
            candidates: self.lists(layer),
            scores: self.scores.span(),
            partials: self.score_partials.span(),
            format: layer.format,
            group,
            head_dim,
            max_region: most.region,
        }
    }

    /// The choice.
    pub fn select(&self, layer: &LayerSearch) -> Select {
        let SearchSizes { group, most, .. } = self.sizes;
        Select {
            heads: layer.heads,
            layouts: layer.layouts,
            searches: layer.searches,
            candidates: self.lists(layer),
            scores: self.scores.span(),
            partials: self.score_partials.span(),
            totals: self.totals.span(),
            weights: self.weights.span(),
            selected: self.selected.span(),
            counts: self.counts.span(),
            marks: self.marks.span(),
            dropped: self.dropped.span(),
            tail_kinds: self.tail_kinds.span(),
            group,
            max_region: most.region,
        }
    }
}
