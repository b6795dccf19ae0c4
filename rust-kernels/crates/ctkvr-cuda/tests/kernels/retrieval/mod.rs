//! Searches of some heads on the device, and what the CPU makes of the same.
pub mod head;
pub mod oracle;

use ctkvr_core::attention::alone::{attend_alone, select_alone};
use ctkvr_core::retriever::{HeadRetriever, ProposedTail};
use ctkvr_core::search::{HeadStep, Layout};
use ctkvr_cuda::head_image::{HeadImage, HeadImages, HeadSizes, NO_HEAD};
use ctkvr_cuda::launch::search_state::{SlotSearch, Total};
use ctkvr_cuda::launch::slot::SlotLayout;
use ctkvr_cuda::launch::{clusters, join, probe, score, select};
use ctkvr_cuda::search::{LayerSearch, Lists, SearchMemory, SearchSizes};
use ctkvr_cuda::{Device, DeviceBuffer, Plain, Result, Span};

use head::Head;

/// A device with the kernels of retrieval.
pub fn open() -> Result<Device> {
    Device::open_with(0, &[clusters::FAMILY, join::FAMILY, probe::FAMILY, score::FAMILY, select::FAMILY])
}

/// What one slot is asked. Slots are `[rows, num_kv_heads]`.
#[derive(Clone)]
pub struct Ask<'a> {
    /// `None`: the row reads everything.
    pub head: Option<&'a Head>,
    /// f32 `[group, head_dim]`.
    pub query: Vec<f32>,
    pub max_selected: usize,
    pub top_p: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub search: SlotSearch,
    pub probes: Vec<u32>,
    /// Where they are listed.
    pub candidates: Vec<u32>,
    pub heaviest: Vec<u32>,
    pub selected: Vec<u32>,
    pub tail_kind: u32,
    pub tail_lse: Vec<f32>,
    pub tail_value: Vec<f32>,
    pub dropped: Vec<Total>,
}

/// Some slots of one layer, on the device.
pub struct Layer<'a> {
    pub device: &'a Device,
    pub asks: Vec<Ask<'a>>,
    pub memory: SearchMemory,
    pub repairs: DeviceBuffer<u32>,
    heads: DeviceBuffer<u64>,
    layouts: DeviceBuffer<SlotLayout>,
    queries: DeviceBuffer<f32>,
    budgets: DeviceBuffer<u32>,
    searches: DeviceBuffer<SlotSearch>,
    images: Vec<HeadImage>,
    pages: Vec<(DeviceBuffer<u8>, DeviceBuffer<u64>)>,
}

impl<'a> Layer<'a> {
    /// All heads are of one shape and format. `budgets`: repairs of each row.
    pub fn new(device: &'a Device, asks: Vec<Ask<'a>>, num_kv_heads: usize, budgets: &[u32]) -> Result<Self> {
        let case = asks.iter().find_map(|ask| ask.head).expect("a head").case;
        let (mut images, mut pages, mut all) = (Vec::new(), Vec::new(), HeadImages::default());
        let (mut addresses, mut layouts, mut queries) = (Vec::new(), Vec::new(), Vec::new());
        let mut most = HeadSizes::default();
        for ask in &asks {
            assert_eq!(ask.query.len(), case.group * case.head_dim);
            queries.extend_from_slice(&ask.query);
            let Some(head) = ask.head else {
                addresses.push(NO_HEAD);
                layouts.push(SlotLayout { len: 9, ..SlotLayout::default() });
                continue;
            };
            let image = all.image(device, &head.state)?;
            let sizes = image.sizes();
            most.region = most.region.max(sizes.region);
            most.num_centroids = most.num_centroids.max(sizes.num_centroids);
            most.num_probes = most.num_probes.max(sizes.num_probes);
            most.num_clusters = most.num_clusters.max(sizes.num_clusters);
            addresses.push(image.address());
            images.push(image);
            let bytes = DeviceBuffer::from_slice(device, &head.page_bytes())?;
            let page = head.shape().page_bytes(head.case.format) as u64;
            let table: Vec<u64> = (0..head.table.pages().len() as u64).map(|i| bytes.span().address() + i * page).collect();
            let table = DeviceBuffer::from_slice(device, &table)?;
            layouts.push(SlotLayout::new(&ask.layout(), table.span().address(), head.offset() as u64));
            pages.push((bytes, table));
        }
        let slots = asks.len();
        let sizes = SearchSizes { slots, num_kv_heads, group: case.group, head_dim: case.head_dim, most };
        assert!(images.iter().all(|image| sizes.hold(&image.sizes())));
        Ok(Self {
            device,
            memory: SearchMemory::new(device, sizes)?,
            repairs: DeviceBuffer::zeroed(device, slots / num_kv_heads)?,
            heads: DeviceBuffer::from_slice(device, &addresses)?,
            layouts: DeviceBuffer::from_slice(device, &layouts)?,
            queries: DeviceBuffer::from_slice(device, &queries)?,
            budgets: DeviceBuffer::from_slice(device, budgets)?,
            searches: DeviceBuffer::new(device, slots)?,
            asks,
            images,
            pages,
        })
    }

    /// The heads' copies.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn images(&self) -> &[HeadImage] {
        &self.images
    }

    /// Pages of the heads, one behind the other.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn pages(&self) -> impl Iterator<Item = Span<u8>> + '_ {
        self.pages.iter().map(|(bytes, _)| bytes.span())
    }

    /// Where these lie.
    #[allow(dead_code, reason = "for the ledger")]
    pub fn page_tables(&self) -> impl Iterator<Item = Span<u64>> + '_ {
        self.pages.iter().map(|(_, table)| table.span())
    }

    pub fn search(&self) -> LayerSearch {
        LayerSearch {
            heads: self.heads.span(),
            layouts: self.layouts.span(),
            queries: self.queries.span(),
            repairs: self.repairs.span(),
            repair_budgets: self.budgets.span(),
            searches: self.searches.span(),
            format: self.asks.iter().find_map(|ask| ask.head).expect("a head").case.format,
            lists: Lists::Device,
        }
    }

    /// Slots change places: other numbers at the same addresses.
    pub fn reverse(&mut self) -> Result<()> {
        let stream = self.device.compute();
        let (mut heads, mut layouts) = (self.read(self.heads.span())?, self.read(self.layouts.span())?);
        heads.reverse();
        layouts.reverse();
        self.asks.reverse();
        let queries: Vec<f32> = self.asks.iter().flat_map(|ask| ask.query.iter().copied()).collect();
        stream.copy_in(self.heads.span(), &heads)?;
        stream.copy_in(self.layouts.span(), &layouts)?;
        stream.copy_in(self.queries.span(), &queries)
    }

    /// Runs everything on poisoned memory.
    pub fn run(&self) -> Result<Vec<Answer>> {
        self.poison()?;
        self.memory.search(self.device, self.device.compute(), &self.search())?;
        self.answers()
    }

    /// No number is there by chance: NaN, and addresses that are none.
    pub fn poison(&self) -> Result<()> {
        let (stream, layer) = (self.device.compute(), self.search());
        let (probe, join) = (self.memory.probe(&layer), self.memory.join(&layer));
        let (clusters, select) = (self.memory.clusters(&layer), self.memory.select(&layer));
        for span in [probe.similarities, clusters.weights, clusters.shares, clusters.partials, select.scores, select.weights] {
            stream.fill(span, 0xff)?;
        }
        for span in [clusters.tail_lse, clusters.tail_value, select.partials.cast(), select.totals.cast(), select.dropped.cast()] {
            stream.fill(span, 0xff)?;
        }
        for span in [probe.probes, join.marks, join.left, join.candidates, clusters.heaviest, select.selected, select.counts] {
            stream.fill(span, 0xff)?;
        }
        stream.fill(select.tail_kinds, 0xff)?;
        stream.fill(layer.searches, 0xff)
    }

    pub fn answers(&self) -> Result<Vec<Answer>> {
        let layer = self.search();
        let (join, clusters, select) = (self.memory.join(&layer), self.memory.clusters(&layer), self.memory.select(&layer));
        let sizes = self.memory.sizes();
        let (group, row_len, region) = (sizes.group, sizes.group * sizes.head_dim, sizes.most.region);
        let (searches, probes, candidates) = (self.read(layer.searches)?, self.read(join.probes)?, self.read(join.candidates)?);
        let (heaviest, selected, counts) = (self.read(clusters.heaviest)?, self.read(select.selected)?, self.read(select.counts)?);
        let (kinds, lse, value, dropped) = (
            self.read(select.tail_kinds)?,
            self.read(clusters.tail_lse)?,
            self.read(clusters.tail_value)?,
            self.read(select.dropped)?,
        );
        assert!(self.read(clusters.tickets)?.iter().all(|t| *t == 0), "tickets are for the next launch");
        let of = |slot: usize| {
            let search = searches[slot];
            let (first_probe, first_cluster) = (slot * sizes.most.num_probes, slot * sizes.most.num_clusters);
            let case = self.asks[slot].head.map(|head| head.case);
            let num_heaviest = case.filter(|c| c.tail && !c.scores_all).map_or(0, |_| {
                let state = &self.asks[slot].head.expect("a head").state;
                state.num_read_clusters().min(oracle::num_clusters(state))
            });
            let num_listed = if search.candidates == 2 { search.num_candidates as usize } else { 0 };
            assert_eq!(counts[slot], search.num_selected);
            Answer {
                search,
                probes: probes[first_probe..first_probe + search.num_probed as usize].to_vec(),
                candidates: candidates[slot * region..slot * region + num_listed].to_vec(),
                heaviest: heaviest[first_cluster..first_cluster + num_heaviest].to_vec(),
                selected: selected[slot * region..slot * region + counts[slot] as usize].to_vec(),
                tail_kind: kinds[slot],
                // Written where it is given.
                tail_lse: if kinds[slot] == 1 { lse[slot * group..(slot + 1) * group].to_vec() } else { Vec::new() },
                tail_value: value[slot * row_len..(slot + 1) * row_len].to_vec(),
                dropped: dropped[slot * group..(slot + 1) * group].to_vec(),
            }
        };
        Ok((0..self.asks.len()).map(of).collect())
    }

    pub fn read<T: Plain + Default>(&self, span: Span<T>) -> Result<Vec<T>> {
        let mut values = vec![T::default(); span.len()];
        self.device.compute().copy_out(&mut values, span)?;
        Ok(values)
    }
}

impl Ask<'_> {
    pub fn layout(&self) -> Layout {
        let head = self.head.expect("a head");
        let (start, end) = (head.state.index.start(), head.state.index.end());
        Layout { len: head.len, start, end, max_selected: self.max_selected, top_p: self.top_p }
    }
}

/// What the CPU makes of an ask.
pub struct Expected {
    pub candidates: Vec<u32>,
    pub num_candidates: usize,
    pub selected: Vec<u32>,
    pub num_probed: usize,
    pub is_outlier: bool,
    pub repairs: bool,
    pub index_bytes: u64,
    pub tail: ProposedTail,
    pub tail_lse: Vec<f32>,
    pub tail_value: Vec<f32>,
    /// f32 `[group, head_dim]`.
    pub output: Vec<f32>,
    pub lse: Vec<f32>,
}

pub fn on_cpu(ask: &Ask, may_repair: bool) -> Expected {
    let head = ask.head.expect("a head");
    let step = HeadStep { query: &ask.query, group: head.case.group, layout: ask.layout(), may_repair };
    let (kernels, kv) = (head.kernels, head.kv());
    let decode =
        select_alone(kernels, &kv, &step, Some(&head.state), |query, scratch, out| head.state.search(&query, scratch, out));
    let searched = decode.searched();
    let proposal = &searched.proposal;
    let mut expected = Expected {
        candidates: searched.candidates().to_vec(),
        num_candidates: searched.num_candidates,
        selected: decode.selected().to_vec(),
        num_probed: proposal.num_probed,
        is_outlier: proposal.is_outlier,
        repairs: searched.repairs,
        index_bytes: 0,
        tail: proposal.tail,
        tail_lse: proposal.tail_lse.clone(),
        tail_value: proposal.tail_value.clone(),
        output: Vec::new(),
        lse: Vec::new(),
    };
    let attention = attend_alone(kernels, &kv, decode);
    let counters = attention.counters;
    expected.index_bytes = counters.bytes_read - (counters.keys_read + counters.values_read) * kv.row_bytes() as u64;
    (expected.output, expected.lse) = (attention.output, attention.lse);
    expected
}

/// What must be equal where numbers are small: lists and counters.
pub fn assert_same(answer: &Answer, expected: &Expected, what: &str) {
    assert_eq!(answer.search.num_candidates as usize, expected.num_candidates, "{what}: candidates");
    assert_eq!(answer.candidates, expected.candidates, "{what}: candidates");
    assert_eq!(answer.selected, expected.selected, "{what}: selected");
    assert_eq!(answer.search.num_probed as usize, expected.num_probed, "{what}: probed");
    assert_eq!(answer.search.is_outlier != 0, expected.is_outlier, "{what}: outlier");
    assert_eq!(answer.search.repairs != 0, expected.repairs, "{what}: repairs");
    assert_eq!(answer.search.index_bytes, expected.index_bytes, "{what}: bytes of index");
    let tail = match expected.tail {
        ProposedTail::None => 0,
        ProposedTail::Given => 1,
        ProposedTail::Scored => 2,
    };
    assert_eq!((answer.tail_kind, answer.search.tail), (tail, tail), "{what}: tail");
}
