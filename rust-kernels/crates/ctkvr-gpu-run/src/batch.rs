//! Sequences that decode a token together, and what their attention reads.

use ctkvr_core::attention::decode::Layout;
use ctkvr_cuda::head_image::HeadSizes;
use ctkvr_cuda::launch::attend::{Attend, partial_len, splits_of};
use ctkvr_cuda::launch::merge::Merge;
use ctkvr_cuda::launch::search_state::SlotSearch;
use ctkvr_cuda::launch::slot::{RowPlace, SlotLayout};
use ctkvr_cuda::search::{Chosen, LayerSearch, Lists, SearchMemory, SearchSizes};
use ctkvr_cuda::{DeviceBuffer, Plain, Span};
use ctkvr_kernels::KvFormat;
use ctkvr_kernels::testing::Random;

use crate::Result;
use crate::heads::{MADE, MAX_SELECTED, MadeHead, SINKS, WINDOW, is_retrieval};
use crate::model::{Model, page_layout};
use crate::rows::Rows;
use crate::sequences::Sequence;
use crate::shape::Shape;

/// What a step reads of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Everything,
    Chosen,
}

impl Reads {
    pub fn name(self) -> &'static str {
        match self {
            Self::Everything => "dense",
            Self::Chosen => "ctkvr",
        }
    }
}

/// Where keys and values of heads that are not read as a whole lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    OnDevice,
    /// What is listed is the CPU's.
    OnHost,
}

/// Sequences that decode a token together.
pub struct Batch<'a> {
    pub model: &'a Model<'a>,
    pub rows: Rows,
    /// f32 `[layers, rows, q]`: what the made-up text asks, in the place of what random weights would.
    queries: DeviceBuffer<f32>,
    /// `[layers, slots]`, slots = rows * KV heads.
    everything: DeviceBuffer<SlotLayout>,
    chosen: DeviceBuffer<SlotLayout>,
    heads: DeviceBuffer<u64>,
    searches: DeviceBuffer<SlotSearch>,
    pub memory: SearchMemory,
    keys: Keys,
    repairs: DeviceBuffer<u32>,
    budgets: DeviceBuffer<u32>,
    partials: DeviceBuffer<f32>,
    /// f32 `[slots, group]`: what nobody looks at here.
    shares: DeviceBuffer<f32>,
    read_lse: DeviceBuffer<f32>,
    total_lse: DeviceBuffer<f32>,
    max_splits: usize,
}

impl<'a> Batch<'a> {
    pub fn new(model: &'a Model<'a>, made: &[MadeHead], sequences: &[Sequence], keys: Keys) -> Result<Self> {
        let (device, shape, n) = (model.device, model.shape, sequences.len());
        let slots = n * shape.kv_heads;
        let head_bytes = page_layout(shape).bytes();
        let mut random = Random(n as u64);
        let (mut everything, mut chosen, mut heads, mut queries) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let all = Layout { len: shape.context, start: 0, end: 0, max_selected: 0, top_p: 1.0 };
        let some = Self::reads(shape);
        for layer in 0..shape.layers {
            for sequence in sequences {
                for g in 0..shape.kv_heads {
                    let head = layer * shape.kv_heads + g;
                    let offset = (head * head_bytes) as u64;
                    everything.push(SlotLayout::new(&all, sequence.table(), offset));
                    let layout = SlotLayout::new(&some, sequence.table(), offset);
                    let is_host = keys == Keys::OnHost && !is_retrieval(head);
                    chosen.push(if is_host { layout.on_host() } else { layout });
                    heads.push(sequence.image(head).address());
                    queries.extend(made[head % MADE].query(&mut random, shape));
                }
            }
        }
        let most = sequences.iter().fold(HeadSizes::default(), |most, sequence| most.joined(sequence.most()));
        let sizes = SearchSizes { slots, num_kv_heads: shape.kv_heads, group: shape.group, head_dim: shape.head_dim, most };
        let position = (shape.context - 1) as u32;
        let places: Vec<RowPlace> = sequences.iter().map(|s| RowPlace { pages: s.table(), position, reserved: 0 }).collect();
        let max_splits = splits_of(shape.context);
        let of_heads = || DeviceBuffer::new(device, slots * shape.group);
        Ok(Self {
            model,
            rows: Rows::new(device, shape, &places, n)?,
            queries: DeviceBuffer::from_slice(device, &queries)?,
            everything: DeviceBuffer::from_slice(device, &everything)?,
            chosen: DeviceBuffer::from_slice(device, &chosen)?,
            heads: DeviceBuffer::from_slice(device, &heads)?,
            searches: DeviceBuffer::zeroed(device, shape.layers * slots)?,
            memory: match keys {
                Keys::OnDevice => SearchMemory::new(device, sizes)?,
                Keys::OnHost => SearchMemory::with_pinned_lists(device, sizes)?,
            },
            keys,
            repairs: DeviceBuffer::zeroed(device, n)?,
            budgets: DeviceBuffer::zeroed(device, n)?,
            partials: DeviceBuffer::new(device, slots * max_splits * partial_len(shape.group, shape.head_dim))?,
            shares: of_heads()?,
            read_lse: of_heads()?,
            total_lse: of_heads()?,
            max_splits,
        })
    }

    /// What every slot reads where something is chosen.
    pub fn reads(shape: &Shape) -> Layout {
        Layout { len: shape.context, start: SINKS, end: shape.context - WINDOW, max_selected: MAX_SELECTED, top_p: 1.0 }
    }

    /// A layer's part of an array over all layers.
    fn of_layer<T: Plain>(&self, all: &DeviceBuffer<T>, layer: usize) -> Span<T> {
        let len = all.len() / self.model.shape.layers;
        all.span().part(layer * len..(layer + 1) * len)
    }

    pub fn search(&self, layer: usize) -> LayerSearch {
        LayerSearch {
            heads: self.of_layer(&self.heads, layer),
            layouts: self.of_layer(&self.chosen, layer),
            queries: self.of_layer(&self.queries, layer),
            repairs: self.repairs.span(),
            repair_budgets: self.budgets.span(),
            searches: self.of_layer(&self.searches, layer),
            format: KvFormat::F16,
            lists: match self.keys {
                Keys::OnDevice => Lists::Device,
                Keys::OnHost => Lists::Pinned,
            },
        }
    }

    /// The stages of a layer's attention over what is chosen, in their order.
    pub const STAGES: [&'static str; 10] = [
        "probe",
        "score_clusters",
        "join_lists",
        "weigh_clusters",
        "list_marked",
        "score",
        "select",
        "rest_values",
        "attend (chosen)",
        "merge (chosen)",
    ];

    /// Launches one of them.
    pub fn stage(&self, layer: usize, stage: usize) -> ctkvr_cuda::Result<()> {
        let (device, search, memory) = (self.model.device, self.search(layer), &self.memory);
        let stream = device.compute();
        match stage {
            0 => memory.probe(&search).launch(device, stream),
            1 => memory.clusters(&search).launch_scores(device, stream),
            2 => memory.join(&search).launch_lists(device, stream),
            3 => memory.clusters(&search).launch_weights(device, stream),
            4 => memory.join(&search).launch_marked(device, stream),
            5 => memory.score(&search).launch(device, stream),
            6 => memory.select(&search).launch(device, stream),
            7 => memory.clusters(&search).launch_rest(device, stream),
            8 => self.attend_to(layer, Reads::Chosen).launch(device, stream),
            _ => self.merge(layer, Reads::Chosen, Span::EMPTY).launch(device, stream),
        }
    }

    fn chosen(&self, reads: Reads) -> Option<Chosen> {
        (reads == Reads::Chosen).then(|| self.memory.chosen())
    }

    pub fn attend_to(&self, layer: usize, reads: Reads) -> Attend {
        let (shape, chosen) = (self.model.shape, self.chosen(reads));
        Attend {
            queries: self.of_layer(&self.queries, layer),
            layouts: self.of_layer(if chosen.is_some() { &self.chosen } else { &self.everything }, layer),
            positions: chosen.map_or(Span::EMPTY, |chosen| chosen.positions),
            counts: chosen.map_or(Span::EMPTY, |chosen| chosen.counts),
            partials: self.partials.span(),
            layout: page_layout(shape),
            group: shape.group,
            max_splits: self.max_splits,
        }
    }

    /// `host`: what the CPU gives, if anything.
    pub fn merge(&self, layer: usize, reads: Reads, host: Span<f32>) -> Merge {
        let (attend, chosen) = (self.attend_to(layer, reads), self.chosen(reads));
        Merge {
            layouts: attend.layouts,
            counts: attend.counts,
            partials: attend.partials,
            host,
            tail_kinds: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_kinds),
            tail_lse: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_lse),
            tail_value: chosen.map_or(Span::EMPTY, |chosen| chosen.tail_value),
            dropped: chosen.map_or(Span::EMPTY, |chosen| chosen.dropped),
            out: self.rows.attended.span(),
            shares: self.shares.span(),
            read_lse: self.read_lse.span(),
            total_lse: self.total_lse.span(),
            head_dim: attend.layout.head_dim,
            group: attend.group,
            max_splits: self.max_splits,
        }
    }

    /// Attention of a layer over everything, without its merge.
    pub fn attend_everything(&self, layer: usize) -> ctkvr_cuda::Result<()> {
        self.attend_to(layer, Reads::Everything).launch(self.model.device, self.model.device.compute())
    }

    /// Attention of a layer, with its search.
    pub fn attend(&self, layer: usize, reads: Reads) -> ctkvr_cuda::Result<()> {
        match reads {
            Reads::Everything => {
                self.attend_everything(layer)?;
                self.merge(layer, Reads::Everything, Span::EMPTY).launch(self.model.device, self.model.device.compute())
            }
            Reads::Chosen => (0..Self::STAGES.len()).try_for_each(|stage| self.stage(layer, stage)),
        }
    }

    /// Attention of all layers and nothing else.
    pub fn attend_layers(&self, reads: Reads) -> ctkvr_cuda::Result<()> {
        (0..self.model.shape.layers).try_for_each(|layer| self.attend(layer, reads))
    }

    pub fn step(&self, reads: Reads) -> ctkvr_cuda::Result<()> {
        self.model.forward(&self.rows, |layer| self.attend(layer, reads))
    }

    /// The mean cosine of what each query head of the last layer gets by `attend` and from everything: sizes like these are in no test.
    ///
    /// # Errors
    /// When a step has given what is no number.
    pub fn cosine_to_everything(&self, attend: impl Fn(usize) -> Result<()>) -> Result<f64> {
        let (device, shape) = (self.model.device, self.model.shape);
        self.attend(shape.layers - 1, Reads::Everything)?;
        let everything = self.rows.attended.to_vec(device)?;
        attend(shape.layers - 1)?;
        let (chosen, hidden) = (self.rows.attended.to_vec(device)?, self.rows.hidden.to_vec(device)?);
        if everything.iter().chain(&chosen).chain(&hidden).any(|x| !x.is_finite()) {
            return Err("a step gave what is no number".into());
        }
        let heads = everything.chunks_exact(shape.head_dim).zip(chosen.chunks_exact(shape.head_dim));
        let cosines: Vec<f64> = heads.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect();
        Ok(cosines.iter().sum::<f64>() / cosines.len() as f64)
    }

    /// What the last step's searches came to, of all layers.
    pub fn searched(&self) -> Result<Searched> {
        let searches = self.searches.to_vec(self.model.device)?;
        let sum = |of: fn(&SlotSearch) -> u64| searches.iter().map(of).sum::<u64>();
        Ok(Searched {
            slots: searches.len(),
            candidates: sum(|s| u64::from(s.num_candidates)) as usize,
            selected: sum(|s| u64::from(s.num_selected)) as usize,
            index_bytes: sum(|s| s.index_bytes) as usize,
        })
    }

    /// Bytes of one key or value.
    pub fn row_bytes(&self) -> usize {
        page_layout(self.model.shape).format.row_bytes(self.model.shape.head_dim)
    }

    /// Bytes that attention has to read: of all keys and values, or of what was searched, scored and chosen, each once.
    pub fn attention_bytes(&self, reads: Reads, searched: &Searched) -> usize {
        match reads {
            Reads::Everything => 2 * searched.slots * self.model.shape.context * self.row_bytes(),
            Reads::Chosen => {
                let always = 2 * searched.slots * (SINKS + WINDOW);
                searched.index_bytes + (always + searched.candidates + searched.selected) * self.row_bytes()
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Sums over all slots of all layers.
pub struct Searched {
    pub slots: usize,
    pub candidates: usize,
    pub selected: usize,
    pub index_bytes: usize,
}
