//! What is timed: each kernel on data like the engine's, inside the caches and far beyond them.

use ctkvr_kernels::{
    Aligned, BF16_BLOCK, BF16_SCORES, BLOCK, Bf16Block, Bf16Kernels, Bf16Product, BlockNumbers, Gemm, Kernels, LevelBits,
    PANEL_COLUMNS, PackedFormat, PackedKernels, PackedProduct, STRIP_ROWS, activation_bytes, bf16_depth,
};

use crate::kv_store::{CACHE_BYTES, HEAD_DIM, KvStore, MEMORY_BYTES, Random};

/// Query heads that share a KV head: those of Qwen2.5-Coder-0.5B.
const GROUP: usize = 7;

/// What one pass reads (and writes, where it writes as much) and computes.
pub(crate) struct Work {
    pub(crate) bytes: usize,
    /// Additions and multiplications; 0 where they are not what is counted.
    pub(crate) flops: usize,
}

/// A kernel with data of its own.
pub(crate) trait Job {
    fn work(&self) -> Work;
    fn run(&mut self, kernels: &Kernels);
}

pub(crate) struct Case {
    pub(crate) kernel: String,
    /// `contiguous` or `scattered`, for kernels over rows of keys and values.
    pub(crate) rows: Option<&'static str>,
    /// Where the data lies: `cache` or `memory`.
    pub(crate) data: &'static str,
    /// What is multiplied: `f32`, `bf16` or `int8`.
    pub(crate) dtype: &'static str,
    /// Only for a set that has linear layers on tiles.
    pub(crate) on_tiles: bool,
    pub(crate) make: Box<dyn Fn() -> Box<dyn Job> + Sync>,
}

/// What a set is there to multiply, and what its peak is measured in. It has all else of the set below it.
pub(crate) fn own_dtype(kernels: &Kernels) -> &'static str {
    match kernels.name {
        "amx" | "avx512bf16" => "bf16",
        "avx512vnni" => "int8",
        _ => "f32",
    }
}

impl Case {
    /// Whether a set has a kernel of its own for it.
    pub(crate) fn suits(&self, kernels: &Kernels) -> bool {
        match self.dtype {
            // AVX2 multiplies bytes too; plain AVX-512 has no more for it.
            "int8" => matches!(kernels.name, "avx2" | "avx512vnni"),
            dtype => dtype == own_dtype(kernels) && (!self.on_tiles || kernels.tile_linear.is_some()),
        }
    }
}

/// Every case there is.
pub(crate) fn cases() -> Vec<Case> {
    let case = |kernel: &str, rows, data, make: fn() -> Box<dyn Job>| Case {
        kernel: kernel.into(),
        rows,
        data,
        dtype: "f32",
        on_tiles: false,
        make: Box::new(make),
    };
    let (contiguous, scattered) = (Some("contiguous"), Some("scattered"));
    let mut all = vec![
        case("score_rows", contiguous, "memory", || Box::new(ScoreRows::new(KvStore::new(MEMORY_BYTES, false)))),
        case("score_rows", scattered, "memory", || Box::new(ScoreRows::new(KvStore::new(MEMORY_BYTES, true)))),
        case("score_rows", contiguous, "cache", || Box::new(ScoreRows::new(KvStore::new(CACHE_BYTES, false)))),
        case("score_rows", scattered, "cache", || Box::new(ScoreRows::new(KvStore::new(CACHE_BYTES, true)))),
        case("add_weighted_rows", contiguous, "memory", || Box::new(AddRows::new(KvStore::new(MEMORY_BYTES, false)))),
        case("add_weighted_rows", scattered, "memory", || Box::new(AddRows::new(KvStore::new(MEMORY_BYTES, true)))),
        case("add_weighted_rows", contiguous, "cache", || Box::new(AddRows::new(KvStore::new(CACHE_BYTES, false)))),
        case("add_weighted_rows", scattered, "cache", || Box::new(AddRows::new(KvStore::new(CACHE_BYTES, true)))),
        case("score_codes", None, "memory", || Box::new(ScoreCodes::new(MEMORY_BYTES))),
        case("score_codes", None, "cache", || Box::new(ScoreCodes::new(CACHE_BYTES))),
        case("exp_sub", None, "cache", || Box::new(ExpSub::new(CACHE_BYTES))),
        case("gemm", None, "cache", || Box::new(Product::new())),
        Case { dtype: "bf16", ..case("product", None, "cache", || Box::new(NarrowProduct::new())) },
        Case { dtype: "bf16", ..case("prompt_attention", None, "cache", || Box::new(PromptAttention::new())) },
        Case { dtype: "int8", ..case("packed_product", None, "memory", || Box::new(PackedLinear::new(1, MEMORY_BYTES))) },
        Case { dtype: "int8", ..case("packed_product", None, "cache", || Box::new(PackedLinear::new(1, CACHE_BYTES))) },
        Case { dtype: "int8", ..case("packed_product, 64 rows", None, "cache", || Box::new(PackedLinear::new(64, CACHE_BYTES))) },
    ];
    all.extend(crate::tile_job::cases());
    all
}

/// Scores of keys.
struct ScoreRows {
    store: KvStore,
    queries: Vec<f32>,
    scores: Vec<f32>,
}

impl ScoreRows {
    fn new(store: KvStore) -> Self {
        let queries = Random(2).values(GROUP * HEAD_DIM);
        Self { store, queries, scores: vec![0.0; GROUP * KvStore::rows_per_part()] }
    }
}

impl Job for ScoreRows {
    fn work(&self) -> Work {
        rows_work(&self.store)
    }

    fn run(&mut self, kernels: &Kernels) {
        let Self { store, queries, scores } = self;
        store.for_keys(|rows| kernels.score_rows(queries, rows, scores, KvStore::rows_per_part()));
    }
}

/// Weighted sums of values.
struct AddRows {
    store: KvStore,
    weights: Vec<f32>,
    sums: Vec<f32>,
}

impl AddRows {
    fn new(store: KvStore) -> Self {
        // Small: sums over millions of passes stay finite.
        let weights = Random(3).values(GROUP * KvStore::rows_per_part()).into_iter().map(|x| x * 1e-12).collect();
        Self { store, weights, sums: vec![0.0; GROUP * HEAD_DIM] }
    }
}

impl Job for AddRows {
    fn work(&self) -> Work {
        rows_work(&self.store)
    }

    fn run(&mut self, kernels: &Kernels) {
        let Self { store, weights, sums } = self;
        store.for_values(|rows| kernels.add_weighted_rows(weights, KvStore::rows_per_part(), rows, sums));
    }
}

fn rows_work(store: &KvStore) -> Work {
    let values = store.num_read() * HEAD_DIM;
    Work { bytes: values * size_of::<u16>(), flops: 2 * values * GROUP }
}

/// Products of a query with 8-bit vectors, as a probe makes them.
struct ScoreCodes {
    query: Vec<f32>,
    codes: Vec<i8>,
    scores: Vec<f32>,
}

impl ScoreCodes {
    fn new(bytes: usize) -> Self {
        let mut random = Random(4);
        let codes = (0..bytes).map(|_| random.next() as i8).collect();
        Self { query: random.values(HEAD_DIM), codes, scores: vec![0.0; KvStore::rows_per_part()] }
    }
}

impl Job for ScoreCodes {
    fn work(&self) -> Work {
        Work { bytes: self.codes.len(), flops: 2 * self.codes.len() }
    }

    fn run(&mut self, kernels: &Kernels) {
        for codes in self.codes.chunks(KvStore::rows_per_part() * HEAD_DIM) {
            let n = codes.len() / HEAD_DIM;
            kernels.score_codes(&self.query, codes, &mut self.scores[..n]);
        }
    }
}

/// The exponentials of a softmax.
struct ExpSub {
    scores: Vec<f32>,
}

impl ExpSub {
    fn new(bytes: usize) -> Self {
        Self { scores: Random(5).values(bytes / size_of::<f32>()) }
    }
}

impl Job for ExpSub {
    fn work(&self) -> Work {
        Work { bytes: 2 * self.scores.len() * size_of::<f32>(), flops: 0 }
    }

    fn run(&mut self, kernels: &Kernels) {
        // In place: e^(x - 1) of what is at most 1 is at most 1, and goes to 1 with the passes.
        std::hint::black_box(kernels.exp_sub(&mut self.scores, 1.0));
    }
}

/// The products of a prefill: scores of 768 rows of queries with a block of 128 keys.
struct Product {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Product {
    const M: usize = 768;
    const N: usize = 128;
    const K: usize = HEAD_DIM;

    fn new() -> Self {
        let mut random = Random(6);
        Self { a: random.values(Self::M * Self::K), b: random.values(Self::K * Self::N), c: vec![0.0; Self::M * Self::N] }
    }
}

impl Job for Product {
    fn work(&self) -> Work {
        let bytes = (self.a.len() + self.b.len() + self.c.len()) * size_of::<f32>();
        Work { bytes, flops: 2 * Self::M * Self::N * Self::K }
    }

    fn run(&mut self, kernels: &Kernels) {
        kernels.gemm(Gemm {
            a: &self.a,
            lda: Self::K,
            b: &self.b,
            ldb: Self::N,
            c: &mut self.c,
            ldc: Self::N,
            m: Self::M,
            n: Self::N,
            k: Self::K,
            accumulate: false,
        });
    }
}

/// The same products in bf16, of queries that are narrowed and keys that are packed already.
struct NarrowProduct {
    a: Vec<u16>,
    panels: Vec<u16>,
    c: Vec<f32>,
}

impl NarrowProduct {
    fn new() -> Self {
        let mut random = Random(7);
        // bf16 from 1/16 to 1, of either sign.
        let mut values =
            |n: usize| (0..n).map(|_| 0x3d80 + (random.next() % 0x200) as u16 + (random.next() as u16 & 0x8000)).collect();
        let (m, n, k) = (Product::M, Product::N, Product::K);
        Self { a: values(m * k), panels: values(n * k), c: vec![0.0; m * n] }
    }

    fn multiply(&mut self, bf16: &Bf16Kernels) {
        let (m, n, k) = (Product::M, Product::N, Product::K);
        for (panel, first) in self.panels.chunks_exact(PANEL_COLUMNS * k).zip((0..n).step_by(PANEL_COLUMNS)) {
            bf16.product(Bf16Product {
                a: &self.a,
                lda: k,
                panel,
                c: &mut self.c[first..],
                ldc: n,
                m,
                columns: PANEL_COLUMNS,
                k,
                accumulate: false,
            });
        }
    }
}

impl Job for NarrowProduct {
    fn work(&self) -> Work {
        let bytes = (self.a.len() + self.panels.len()) * size_of::<u16>() + self.c.len() * size_of::<f32>();
        Work { bytes, flops: 2 * Product::M * Product::N * Product::K }
    }

    fn run(&mut self, kernels: &Kernels) {
        if let Some(bf16) = kernels.bf16 {
            self.multiply(bf16);
        }
    }
}

/// A prompt's attention: its rows over keys and values as they are stored, far from the diagonal.
struct PromptAttention {
    store: KvStore,
    queries: Aligned<u16>,
    keys: Aligned<u16>,
    values: Aligned<u16>,
    scores: Aligned<f32>,
    totals: Aligned<f32>,
}

impl PromptAttention {
    const ROWS: usize = 768;
    const GROUP: usize = 3;
    const DEPTH: usize = bf16_depth(HEAD_DIM);

    fn new() -> Self {
        let mut random = Random(9);
        let mut attention = Self {
            store: KvStore::new(CACHE_BYTES, false),
            queries: Aligned::new(),
            keys: Aligned::new(),
            values: Aligned::new(),
            scores: Aligned::new(),
            totals: Aligned::new(),
        };
        attention.queries.resize(Self::ROWS * Self::DEPTH);
        attention.keys.resize(BF16_BLOCK * Self::DEPTH);
        attention.values.resize(BF16_BLOCK * Self::DEPTH);
        attention.scores.resize(BF16_SCORES);
        attention.totals.resize(Self::ROWS * Self::DEPTH);
        // bf16 from 1/16 to 1, of either sign.
        attention.queries.fill_with(|| 0x3d80 + (random.next() % 0x200) as u16 + (random.next() as u16 & 0x8000));
        attention
    }
}

impl Job for PromptAttention {
    fn work(&self) -> Work {
        let num_keys = self.store.num_read();
        Work { bytes: 2 * num_keys * HEAD_DIM * size_of::<u16>(), flops: 4 * Self::ROWS * num_keys * HEAD_DIM }
    }

    fn run(&mut self, kernels: &Kernels) {
        let Some(bf16) = kernels.bf16 else { return };
        let (mut max, mut sum) = (vec![f32::NEG_INFINITY; Self::ROWS], vec![0.0; Self::ROWS]);
        let Self { store, queries, keys, values, scores, totals } = self;
        totals.fill(0.0);
        store.for_blocks(BF16_BLOCK, |key_rows, value_rows| {
            bf16.pack_keys(key_rows, keys);
            bf16.pack_values(value_rows, values);
            bf16.attend_block(Bf16Block {
                queries,
                keys,
                values,
                scores,
                max: &mut max,
                sum: &mut sum,
                totals,
                depth: Self::DEPTH,
                num_rows: Self::ROWS,
                group: Self::GROUP,
                num_keys: BF16_BLOCK,
                position: BF16_BLOCK as isize,
                window: usize::MAX,
            });
        });
    }
}

/// A linear layer over weights of 4 bits with a min a block.
struct PackedLinear {
    rows: usize,
    values: Vec<f32>,
    /// `values`, rounded, once a pass has run.
    activations: Vec<u8>,
    strips: Vec<u8>,
    c: Vec<f32>,
}

impl PackedLinear {
    const K: usize = 896;
    const FORMAT: PackedFormat = PackedFormat { bits: LevelBits::Four, numbers: BlockNumbers::ScaleAndMin };
    const STRIP_BYTES: usize = Self::FORMAT.strip_bytes(Self::K);

    fn new(rows: usize, bytes: usize) -> Self {
        let mut random = Random(8);
        let num_strips = bytes / Self::STRIP_BYTES;
        let mut strips = vec![0; num_strips * Self::STRIP_BYTES];
        let levels = std::array::from_fn(|_| std::array::from_fn(|_| (random.next() % 16) as u8));
        // f16 from 1/16 to 1.
        let numbers = std::array::from_fn(|_| 0x2c00 + (random.next() % 0x1000) as u16);
        for block in strips.chunks_exact_mut(Self::FORMAT.block_bytes()) {
            Self::FORMAT.pack_block(&levels, &numbers, &numbers, block);
        }
        let values = random.values(rows * Self::K);
        Self { rows, values, activations: Vec::new(), strips, c: vec![0.0; rows * STRIP_ROWS] }
    }

    fn multiply(&mut self, packed: &PackedKernels) {
        if self.activations.is_empty() {
            self.activations = vec![0; self.rows * activation_bytes(Self::K)];
            let rows = self.activations.chunks_exact_mut(activation_bytes(Self::K));
            for (out, x) in rows.zip(self.values.chunks_exact(Self::K)) {
                packed.round(x, 0..Self::K / BLOCK, out);
            }
        }
        for strip in self.strips.chunks_exact(Self::STRIP_BYTES) {
            let product = PackedProduct {
                format: Self::FORMAT,
                activations: self.activations.as_ptr(),
                strip: strip.as_ptr(),
                c: self.c.as_mut_ptr(),
                ldc: STRIP_ROWS,
                rows: self.rows,
                columns: STRIP_ROWS,
                k: Self::K,
            };
            // SAFETY: the matrices have these sizes.
            unsafe { packed.product(&product) };
        }
    }
}

impl Job for PackedLinear {
    fn work(&self) -> Work {
        let num_weights = self.strips.len() / Self::STRIP_BYTES * STRIP_ROWS * Self::K;
        Work { bytes: self.strips.len(), flops: 2 * num_weights * self.rows }
    }

    fn run(&mut self, kernels: &Kernels) {
        if let Some(packed) = kernels.packed {
            self.multiply(packed);
        }
    }
}
