//! What a sequence needs at most: bytes of pages, of the queries that it keeps, and of its index, from the layouts of this crate. Whoever
//! admits or refuses asks here, so that nobody else knows the layouts.
//!
//! It is what a sequence holds between operations. While an index is built anew the old one still stands. Turns are taken to be of
//! [`SHORTEST_TURN`] tokens or more on average: each makes a segment of the tail, however short.

use ctkvr_kernels::{KvFormat, PAGE_SIZE, PageLayout};

use crate::options::{SelectorKind, SelectorOptions};
use crate::sequence::recent_queries::DECODE_STRIDE;
use crate::step::{AttentionShape, SequenceMemory};

/// Times the most centroids of a first block that an index holds: see `index/centroid_index.rs`.
const HELD_BLOCKS: usize = 2;
/// Tokens of a turn, prompt and answer, for which a segment of the tail is counted.
const SHORTEST_TURN: usize = 64;
/// Positions of which a segment of the tail makes clusters of at most one more than asked for.
const TAIL_STRETCH: usize = 4096;
/// Keys of a summary of [`SelectorKind::Quest`], and of a cluster of [`SelectorKind::KeyClusters`].
const SUMMARY_KEYS: usize = 16;
/// Positions that [`SelectorKind::KeyClusters`] clusters at once.
const CLUSTERED_KEYS: usize = 8192;

/// A sequence whose memory is asked for.
#[derive(Debug, Clone, Copy)]
pub struct MemoryQuestion<'a> {
    pub shape: AttentionShape,
    pub format: KvFormat,
    pub selector: &'a SelectorOptions,
    /// The most tokens it may store.
    pub max_tokens: usize,
    /// Tokens stored, at most `max_tokens`.
    pub num_tokens: usize,
}

impl MemoryQuestion<'_> {
    /// The most bytes that it holds between operations. Rises with `num_tokens`.
    pub fn need(&self) -> SequenceMemory {
        SequenceMemory { kv_bytes: self.kv_bytes(), index_bytes: self.query_bytes() + self.num_heads() * self.head_index_bytes() }
    }

    /// (layer, KV head) pairs.
    fn num_heads(&self) -> usize {
        self.shape.num_layers * self.shape.num_kv_heads
    }

    fn kv_bytes(&self) -> usize {
        let layout = PageLayout { head_dim: self.shape.head_dim, format: self.format };
        self.num_heads() * self.num_tokens.div_ceil(PAGE_SIZE) * layout.bytes()
    }

    /// Positions that are indexed; none where everything is read.
    fn num_keys(&self) -> usize {
        let SelectorOptions { num_sink_tokens, recent_window, dense_below, kind, .. } = *self.selector;
        let is_dense = kind == SelectorKind::Full || self.num_tokens < dense_below;
        if is_dense { 0 } else { self.num_tokens.saturating_sub(num_sink_tokens.saturating_add(recent_window)) }
    }

    /// The queries from which centroids are made, f16: room for them is there from the first token on, whatever the selector.
    fn query_bytes(&self) -> usize {
        let row_bytes = self.shape.num_layers * self.shape.num_q_heads * self.shape.head_dim * size_of::<u16>();
        let (least, most) = self.selector.centroid_bounds();
        let for_prompt = most.min(self.max_tokens).max(1);
        // Of generated tokens those are kept that a cut needs to grow again, and those of two growths.
        let of_growths = 2 * self.selector.append_size.div_ceil(DECODE_STRIDE);
        let grown = (HELD_BLOCKS * most - least).saturating_add(of_growths).min(2 * self.num_tokens);
        let for_answer = if self.num_keys() > 0 { grown.max(for_prompt) } else { for_prompt };
        // A later prompt keeps those of before it until it is whole: once it is long enough to overwrite some.
        let before = if self.num_tokens > for_prompt { for_answer } else { 0 };
        row_bytes * for_answer.max(for_prompt + before)
    }

    /// The index of one KV head. Layers that a selector leaves dense are counted too.
    fn head_index_bytes(&self) -> usize {
        let n = self.num_keys();
        if n == 0 {
            return 0;
        }
        match self.selector.kind {
            SelectorKind::Full | SelectorKind::ExactTopK | SelectorKind::Streaming => 0,
            SelectorKind::Ctkvr => self.centroid_bytes(n) + if self.selector.tail { self.tail_bytes(n) } else { 0 },
            SelectorKind::SnapKv => {
                size_of::<u32>() * if self.selector.max_selected == 0 { n } else { n.min(self.selector.max_selected) }
            }
            SelectorKind::Quest => self.summary_bytes(n),
            SelectorKind::MagicPig => {
                // A position in every table, where each bucket begins, the mean key, each key's length.
                let tables = self.selector.hash_tables * (n + (1 << self.selector.hash_bits) + 1);
                size_of::<u32>() * (tables + self.shape.head_dim + n)
            }
            SelectorKind::KeyClusters => {
                // Every position, and where each cluster begins; several segments may have a cluster more each.
                let numbers = n + n.div_ceil(SUMMARY_KEYS) + n.div_ceil(CLUSTERED_KEYS) + 1;
                self.summary_bytes(n) + self.page_bytes() + size_of::<u32>() * numbers
            }
        }
    }

    /// Centroids of one KV head, and their lists over `n` positions.
    fn centroid_bytes(&self, n: usize) -> usize {
        let num_centroids = HELD_BLOCKS * self.selector.centroid_bounds().1.min(self.num_tokens);
        // A block that a repair or a short growth makes may have a list for a single centroid.
        let num_lists = num_centroids;
        // A gap to the position before is one byte, and one more for every 255 that are passed over. Then where the list begins, and where its
        // block's last one ends.
        let of_list = self.selector.posting_list_len(n, self.shape.group_size()) + n.div_ceil(255) + 2 * size_of::<u32>();
        // Codes of 8 bits and a scale.
        let of_centroid = self.shape.head_dim + size_of::<f32>();
        num_lists * of_list + num_centroids * of_centroid
    }

    /// Clusters of one KV head over `n` positions.
    fn tail_bytes(&self, n: usize) -> usize {
        let SelectorOptions { append_size, repair_share, cluster_size, .. } = *self.selector;
        let repairs = (n as f64 * repair_share).ceil() as usize;
        // Whenever the index grows, a cluster may be smaller than it should be.
        let num_segments = n.div_ceil(append_size) + repairs + n.div_ceil(SHORTEST_TURN) + n.div_ceil(TAIL_STRETCH) + 2;
        let num_clusters = (n.div_ceil(cluster_size) + num_segments).min(n);
        // A mean key and a mean value, f16, where its positions begin, how many they are.
        let of_cluster = 2 * self.shape.head_dim * size_of::<u16>() + size_of::<u32>() + size_of::<f32>();
        // Its cluster, and its place in the order of clusters.
        let of_position = size_of::<u16>() + size_of::<u32>();
        let corrections = self.shape.group_size() * size_of::<f32>();
        num_clusters * of_cluster + n * of_position + num_segments * size_of::<u32>() + corrections
    }

    /// Two f16 rows for every [`SUMMARY_KEYS`] of `n` keys, in pages.
    fn summary_bytes(&self, n: usize) -> usize {
        n.div_ceil(SUMMARY_KEYS).div_ceil(PAGE_SIZE) * self.page_bytes()
    }

    /// A page of f16 rows.
    fn page_bytes(&self) -> usize {
        PageLayout { head_dim: self.shape.head_dim, format: KvFormat::F16 }.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: AttentionShape = AttentionShape { num_layers: 24, num_q_heads: 14, num_kv_heads: 2, head_dim: 64 };
    const HEADS: usize = 24 * 2;
    /// The recent queries, f16 `[384, 7, 64]` per layer and KV head.
    const QUERIES: usize = HEADS * 384 * 7 * 64 * 2;

    /// As preset `balanced` for a group of seven.
    fn balanced(kind: SelectorKind) -> SelectorOptions {
        SelectorOptions {
            kind,
            num_centroids: 0,
            centroids_per_list: 2,
            max_selected: 1024,
            exact_share: 0.08,
            repair_share: 0.015,
            dense_below: 4096,
            ..SelectorOptions::full()
        }
    }

    fn need(selector: &SelectorOptions, num_tokens: usize, format: KvFormat) -> SequenceMemory {
        MemoryQuestion { shape: QWEN, format, selector, max_tokens: num_tokens, num_tokens }.need()
    }

    #[test]
    fn pages_are_counted_whole_and_lists_only_for_the_selector_that_has_them() {
        // 63 pages of 256 positions
        let full = need(&balanced(SelectorKind::Full), 16_000, KvFormat::F16);
        assert_eq!(full.kv_bytes, 63 * 256 * QWEN.kv_bytes_per_token());
        // kept for any selector, and those of before a later prompt
        assert_eq!(full.index_bytes, 2 * QUERIES);
        let ctkvr = need(&balanced(SelectorKind::Ctkvr), 16_000, KvFormat::F16);
        assert_eq!(ctkvr.kv_bytes, full.kv_bytes);
        assert!(ctkvr.index_bytes - full.index_bytes > HEADS * 2 * 192 * 1536);
    }

    #[test]
    fn eight_bits_are_nine_sixteenths_with_the_same_index() {
        let [f16, q8] = [KvFormat::F16, KvFormat::Q8].map(|format| need(&balanced(SelectorKind::Ctkvr), 16_000, format));
        assert_eq!(q8.kv_bytes, f16.kv_bytes / 16 * 9);
        assert_eq!(q8.index_bytes, f16.index_bytes);
    }

    #[test]
    fn clusters_of_the_tail_are_counted() {
        let with_tail = balanced(SelectorKind::Ctkvr);
        let without = SelectorOptions { tail: false, ..with_tail.clone() };
        let [a, b] = [with_tail, without].map(|selector| need(&selector, 16_272, KvFormat::F16).index_bytes);
        // 16,000 positions are indexed: 500 clusters of a key and a value, f16; and those that growth adds.
        let least = HEADS * (500 * 2 * 64 * 2 + 16_000 * (2 + 4));
        assert!(a - b > least && a - b < 2 * least, "{}", a - b);
    }

    #[test]
    fn what_each_of_the_others_keeps() {
        let bytes = |kind| need(&balanced(kind), 16_272, KvFormat::F16).index_bytes;
        let queries = bytes(SelectorKind::Streaming);
        assert_eq!(bytes(SelectorKind::ExactTopK), queries);
        let index = |kind| bytes(kind) - queries;
        // 16,000 positions are indexed, per layer and KV head: 1024 positions as u32
        assert_eq!(index(SelectorKind::SnapKv), HEADS * 1024 * 4);
        // 1,000 pages' largest and smallest values, f16, in stored pages of 256 rows
        assert_eq!(index(SelectorKind::Quest), HEADS * 1024 * 64 * 2 * 2);
        // 150 tables of all positions alone
        assert!(index(SelectorKind::MagicPig) > HEADS * 150 * 16_000 * 4);
        assert!(index(SelectorKind::KeyClusters) > HEADS * (1000 * 64 * 4 + 16_000 * 4));
    }

    #[test]
    fn below_dense_below_there_are_recent_queries_only() {
        assert_eq!(need(&balanced(SelectorKind::Ctkvr), 4095, KvFormat::F16).index_bytes, 2 * QUERIES);
        assert_eq!(need(&balanced(SelectorKind::Ctkvr), 300, KvFormat::F16).index_bytes, QUERIES / 384 * 300);
        let selector = balanced(SelectorKind::Ctkvr);
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
            let selector = SelectorOptions { list_len: number(&row, "listLength"), ..SelectorOptions::full() };
            assert_eq!(
                selector.posting_list_len(number(&row, "numKeys"), number(&row, "groupSize")),
                number(&row, "kept"),
                "{row}"
            );
        }
        for row in rows("centroidCount") {
            let selector = SelectorOptions { num_centroids: number(&row, "numCentroids"), ..SelectorOptions::full() };
            assert_eq!(selector.centroid_count(number(&row, "numKeys")), number(&row, "count"), "{row}");
            assert_eq!(selector.centroid_bounds(), (number(&row, "least"), number(&row, "most")), "{row}");
        }
        for row in rows("indexedRegion") {
            let (sinks, window) = (number(&row, "numSinkTokens"), number(&row, "recentWindow"));
            let options = balanced(SelectorKind::Ctkvr);
            let selector = SelectorOptions { num_sink_tokens: sinks, recent_window: window, dense_below: 0, ..options };
            let num_tokens = number(&row, "numTokens");
            let question =
                MemoryQuestion { shape: QWEN, format: KvFormat::F16, selector: &selector, max_tokens: num_tokens, num_tokens };
            assert_eq!(question.num_keys(), number(&row, "end") - number(&row, "start"), "{row}");
            let sequence = crate::sequence::store::Sequence::new(QWEN, num_tokens, KvFormat::F16, selector.clone());
            assert_eq!(sequence.region(num_tokens), number(&row, "start")..number(&row, "end"), "{row}");
        }
    }

    #[test]
    fn rises_with_the_tokens() {
        for kind in [
            SelectorKind::Full,
            SelectorKind::Ctkvr,
            SelectorKind::SnapKv,
            SelectorKind::Quest,
            SelectorKind::MagicPig,
            SelectorKind::KeyClusters,
        ] {
            let selector = balanced(kind);
            let mut before = SequenceMemory::default();
            for num_tokens in (0..20_000).step_by(37) {
                let question =
                    MemoryQuestion { shape: QWEN, format: KvFormat::F16, selector: &selector, max_tokens: 20_000, num_tokens };
                let now = question.need();
                assert!(now.kv_bytes >= before.kv_bytes && now.index_bytes >= before.index_bytes, "{kind:?} at {num_tokens}");
                before = now;
            }
        }
    }
}
