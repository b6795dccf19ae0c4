//! What a sequence needs, for every method.

use std::sync::Arc;

use ctkvr_baselines::testing::Settings;
use ctkvr_core::kv::block_table::BlockTable;
use ctkvr_core::kv::host_pool::HostKvPool;
use ctkvr_core::sequence::store::Sequence;
use ctkvr_core::{AttentionShape, BuildOptions, CtkvrBuildOptions, CtkvrOptions, MemoryQuestion, SelectorOptions, SequenceMemory};
use ctkvr_kernels::KvFormat;

const QWEN: AttentionShape = AttentionShape { num_layers: 24, num_q_heads: 14, num_kv_heads: 2, head_dim: 64, local: None };
const HEADS: usize = 24 * 2;
/// The recent queries, f16 `[384, 7, 64]` per layer and KV head.
const QUERIES: usize = HEADS * 384 * 7 * 64 * 2;

/// As preset `balanced` for a group of seven.
fn balanced(method: &'static str) -> Settings {
    Settings {
        method,
        num_centroids: 0,
        centroids_per_list: 2,
        max_selected: 1024,
        retrieval_head_share: 0.08,
        repair_share: 0.015,
        dense_below: 4096,
        ..Settings::full()
    }
}

fn need(settings: &Settings, num_tokens: usize, format: KvFormat) -> SequenceMemory {
    let selector = settings.clone().into();
    MemoryQuestion { shape: QWEN, format, selector: &selector, max_tokens: num_tokens, num_tokens }.need()
}

#[test]
fn pages_are_counted_whole_and_lists_only_for_the_selector_that_has_them() {
    // 63 pages of 256 positions
    let full = need(&balanced("full"), 16_000, KvFormat::F16);
    assert_eq!(full.kv_bytes, 63 * 256 * QWEN.kv_bytes_per_token());
    // kept for any selector, and those of before a later prompt
    assert_eq!(full.index_bytes, 2 * QUERIES);
    let ctkvr = need(&balanced("ctkvr"), 16_000, KvFormat::F16);
    assert_eq!(ctkvr.kv_bytes, full.kv_bytes);
    assert!(ctkvr.index_bytes - full.index_bytes > HEADS * 2 * 192 * 1536);
}

#[test]
fn eight_bits_are_nine_sixteenths_with_the_same_index() {
    let [f16, q8] = [KvFormat::F16, KvFormat::Q8].map(|format| need(&balanced("ctkvr"), 16_000, format));
    assert_eq!(q8.kv_bytes, f16.kv_bytes / 16 * 9);
    assert_eq!(q8.index_bytes, f16.index_bytes);
}

#[test]
fn clusters_of_the_tail_are_counted() {
    let with_tail = balanced("ctkvr");
    let without = Settings { tail: false, ..with_tail.clone() };
    let [a, b] = [with_tail, without].map(|selector| need(&selector, 16_272, KvFormat::F16).index_bytes);
    // 16,000 positions are indexed: 500 clusters of a key and a value, f16; and those that growth adds.
    let least = HEADS * (500 * 2 * 64 * 2 + 16_000 * (2 + 4));
    assert!(a - b > least && a - b < 2 * least, "{}", a - b);
}

#[test]
fn what_each_of_the_others_keeps() {
    let bytes = |kind| need(&balanced(kind), 16_272, KvFormat::F16).index_bytes;
    let queries = bytes("streaming");
    assert_eq!(bytes("exactTopK"), queries);
    let index = |kind| bytes(kind) - queries;
    // 16,000 positions are indexed, per layer and KV head: 1024 positions as u32
    assert_eq!(index("snapkv"), HEADS * 1024 * 4);
    // 1,000 pages' largest and smallest values, f16
    assert_eq!(index("quest"), HEADS * 1000 * 64 * 2 * 2);
    // 150 tables of all positions alone
    assert!(index("magicpig") > HEADS * 150 * 16_000 * 4);
    assert!(index("keyClusters") > HEADS * (1000 * 64 * 4 + 16_000 * 4));
}

#[test]
fn below_dense_below_there_are_recent_queries_only() {
    assert_eq!(need(&balanced("ctkvr"), 4095, KvFormat::F16).index_bytes, 2 * QUERIES);
    assert_eq!(need(&balanced("ctkvr"), 300, KvFormat::F16).index_bytes, QUERIES / 384 * 300);
    let selector = balanced("ctkvr").into();
    let begun = MemoryQuestion { shape: QWEN, format: KvFormat::F16, selector: &selector, max_tokens: 16_000, num_tokens: 1 };
    assert_eq!(begun.need().index_bytes, QUERIES);
}

/// One table for both languages: packages/core/test/index-sizes.json.
#[test]
fn numbers_that_go_by_the_region_are_those_of_typescript() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../packages/core/test/index-sizes.json");
    let text = std::fs::read_to_string(path).expect("the table is in the repository");
    let table: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let rows = |name: &str| table[name].as_array().expect("rows").clone();
    let number = |row: &serde_json::Value, name: &str| row[name].as_u64().expect("a number") as usize;
    for row in rows("postingListLength") {
        let build = CtkvrBuildOptions { list_len: number(&row, "listLength"), ..CtkvrOptions::default().build };
        assert_eq!(build.posting_list_len(number(&row, "numKeys"), number(&row, "groupSize")), number(&row, "kept"), "{row}");
    }
    for row in rows("centroidCount") {
        let build = BuildOptions { num_queries: number(&row, "numCentroids"), ..BuildOptions::default() };
        assert_eq!(build.query_count(number(&row, "numKeys")), number(&row, "count"), "{row}");
        assert_eq!(build.query_bounds(), (number(&row, "least"), number(&row, "most")), "{row}");
    }
    for row in rows("indexedRegion") {
        let (sinks, window) = (number(&row, "numSinkTokens"), number(&row, "recentWindow"));
        let settings = Settings { num_sink_tokens: sinks, recent_window: window, dense_below: 0, ..balanced("ctkvr") };
        let (selector, num_tokens) = (SelectorOptions::from(settings), number(&row, "numTokens"));
        let pool = Arc::new(HostKvPool::new(QWEN.page_shape(), None));
        let sequence = Sequence::new(QWEN, BlockTable::new(pool, KvFormat::F16), num_tokens, selector);
        assert_eq!(sequence.region(num_tokens), number(&row, "start")..number(&row, "end"), "{row}");
    }
}

#[test]
fn rises_with_the_tokens() {
    for kind in ["full", "ctkvr", "snapkv", "quest", "magicpig", "keyClusters"] {
        let selector = balanced(kind).into();
        let mut before = SequenceMemory::default();
        for num_tokens in (0..20_000).step_by(37) {
            let question =
                MemoryQuestion { shape: QWEN, format: KvFormat::F16, selector: &selector, max_tokens: 20_000, num_tokens };
            let now = question.need();
            assert!(now.kv_bytes >= before.kv_bytes && now.index_bytes >= before.index_bytes, "{kind} at {num_tokens}");
            before = now;
        }
    }
}
