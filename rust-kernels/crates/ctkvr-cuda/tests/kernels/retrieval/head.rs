//! A KV head with a CTkvr state, made by the core's own builds and growths from seeded numbers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ctkvr_core::index::ctkvr::CtkvrHead;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::kv::pool::PageShape;
use ctkvr_core::retriever::BuildInput;
use ctkvr_core::{BuildOptions, CtkvrBuildOptions, CtkvrOptions, CtkvrSearchOptions};
use ctkvr_kernels::testing::Random;
use ctkvr_kernels::{Kernels, KvFormat};

/// Numbers of keys, values and queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Whole ones: every sum of products is exact, in any order.
    Small,
    Real,
}

/// One head.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub seed: u64,
    pub numbers: Numbers,
    pub format: KvFormat,
    pub head_dim: usize,
    pub group: usize,
    /// Positions of the first build's region, and how many each growth adds.
    pub region: usize,
    pub growths: &'static [usize],
    pub sinks: usize,
    pub window: usize,
    /// Queries of the first build.
    pub num_queries: usize,
    pub list_len: usize,
    pub per_list: usize,
    pub cluster_size: usize,
    pub cluster_format: KvFormat,
    pub tail: bool,
    pub num_probes: usize,
    pub cluster_probes: usize,
    pub scores_all: bool,
    /// Of a retrieval head that reads a share of its clusters, which.
    pub cluster_share: Option<f64>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            seed: 1,
            numbers: Numbers::Small,
            format: KvFormat::F16,
            head_dim: 64,
            group: 3,
            region: 500,
            growths: &[],
            sinks: 4,
            window: 20,
            num_queries: 40,
            list_len: 48,
            per_list: 1,
            cluster_size: 8,
            cluster_format: KvFormat::F16,
            tail: true,
            num_probes: 4,
            cluster_probes: 3,
            scores_all: false,
            cluster_share: None,
        }
    }
}

/// The pages of a sequence are those of so many heads, of which this is one: kernels must find its place.
const HEADS_A_PAGE: usize = 2;
pub const OUR_HEAD: usize = 1;

pub struct Head {
    pub case: Case,
    pub kernels: &'static Kernels,
    pub table: BlockTable,
    pub state: CtkvrHead,
    /// Tokens stored.
    pub len: usize,
}

impl Head {
    pub fn new(case: Case) -> Self {
        Self::with_queries(case, query)
    }

    /// Whose queries are all the same one.
    pub fn of_one_query(case: Case) -> Self {
        Self::with_queries(case, |_, case| query(&mut Random(9), case))
    }

    fn with_queries(case: Case, query: impl Fn(&mut Random, &Case) -> Vec<f32>) -> Self {
        let Case { head_dim: d, group, region, growths, sinks, window, .. } = case;
        let kernels = Kernels::named("scalar", d).expect("the plain kernels");
        let len = sinks + region + growths.iter().sum::<usize>() + window;
        let mut random = Random(case.seed);
        let most = if case.format == KvFormat::Q8 && case.numbers == Numbers::Small { 127 } else { 3 };
        let (keys, values) = (numbers(&mut random, case.numbers, len * d, most), numbers(&mut random, case.numbers, len * d, 3));
        let shape = PageShape { num_heads: HEADS_A_PAGE, head_dim: d };
        let mut table = BlockTable::new(Arc::new(HostKvPool::new(shape, None)), case.format);
        table.reserve(0, len).expect("a small store");
        for (i, (key, value)) in keys.chunks_exact(d).zip(values.chunks_exact(d)).enumerate() {
            let (mut key, mut value) = (key.to_vec(), value.to_vec());
            if case.format == KvFormat::Q8 && case.numbers == Numbers::Small {
                // So that codes are the numbers, and every scale is 1.
                key.iter_mut().chain(&mut value).step_by(32).for_each(|x| *x = 127.0);
            }
            // SAFETY: reserved above; each row holds d values.
            unsafe { table.head(OUR_HEAD).store(kernels, i, key.as_ptr(), value.as_ptr()) };
        }
        let options = options(&case);
        let cancel = AtomicBool::new(false);
        let (mut end, mut state) = (sinks + region, None::<CtkvrHead>);
        for added in std::iter::once(0).chain(growths.iter().copied()) {
            end += added;
            let count = if state.is_none() { case.num_queries } else { added.div_ceil(40) };
            let queries: Vec<f32> = (0..count).flat_map(|_| query(&mut random, &case)).collect();
            let kv = table.head(OUR_HEAD);
            let input = BuildInput {
                kernels,
                layer: 0,
                keys: kv.keys(0, end + window),
                values: kv.values(0, end + window),
                region: sinks..end,
                queries: &queries,
                group,
                grown_at: end + window,
                options: BuildOptions { num_queries: case.num_queries, append_size: 64 },
                cancel: &cancel,
            };
            let next = match &state {
                None => CtkvrHead::build(&input, options),
                Some(state) => state.grown(&input),
            };
            state = Some(next.expect("built"));
        }
        let state = state.expect("built at least once");
        let state = if case.scores_all || case.cluster_share.is_some() { state.as_retrieval_head() } else { state };
        Self { case, kernels, table, state, len }
    }

    pub fn kv(&self) -> ctkvr_core::kv::head_kv::HeadKv<'_> {
        self.table.head(OUR_HEAD)
    }

    /// Bytes into each page before this head.
    pub fn offset(&self) -> usize {
        OUR_HEAD * self.shape().head_layout(self.case.format).bytes()
    }

    pub fn shape(&self) -> PageShape {
        PageShape { num_heads: HEADS_A_PAGE, head_dim: self.case.head_dim }
    }

    /// All pages, one behind the other.
    pub fn page_bytes(&self) -> Vec<u8> {
        let bytes = self.shape().page_bytes(self.case.format);
        // SAFETY: pages of the host's pool hold so many bytes; rows that nobody stored are whatever they are.
        let page = |address: usize| unsafe { std::slice::from_raw_parts(address as *const u8, bytes) };
        self.table.pages().iter().flat_map(|p| page(p.address()).iter().copied()).collect()
    }
}

pub fn options(case: &Case) -> CtkvrOptions {
    let Case { per_list, list_len, tail, cluster_size, cluster_format, num_probes, cluster_probes, cluster_share, .. } = *case;
    let defaults = CtkvrOptions::default().build;
    let build = CtkvrBuildOptions { centroids_per_list: per_list, list_len, tail, cluster_size, cluster_format, ..defaults };
    let search =
        CtkvrSearchOptions { num_probes, cluster_probes, retrieval_cluster_share: cluster_share.unwrap_or(1.0), repair_share: 0.0 };
    CtkvrOptions { build, search }
}

fn numbers(random: &mut Random, numbers: Numbers, n: usize, most: i64) -> Vec<f32> {
    match numbers {
        Numbers::Small => random.integers(n, most),
        Numbers::Real => random.reals(n, 2),
    }
}

/// f32 `[group, head_dim]`. Small ones have 16 values of 1 or -1, so that their length is 4, and differ little within the group.
pub fn query(random: &mut Random, case: &Case) -> Vec<f32> {
    let (d, group) = (case.head_dim, case.group);
    if case.numbers == Numbers::Real {
        let shared = random.reals(d, 2);
        let own = random.reals(group * d, 1);
        return own.iter().zip(shared.iter().cycle()).map(|(x, s)| x * 0.5 + s * 0.5).collect();
    }
    let mut head = vec![0.0; d];
    for part in head.chunks_exact_mut(d / 16) {
        let place = random.index(part.len());
        part[place] = if random.once_in(2) { 1.0 } else { -1.0 };
    }
    let mut all = head.repeat(group);
    for head in all.chunks_exact_mut(d).skip(1) {
        let place = random.index(d);
        head[place] = -head[place];
    }
    all
}
