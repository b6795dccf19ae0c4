//! The stages of one head against the TypeScript reference's golden data (packages/testkit/golden/core-small, whose README says what
//! the fields are, and how closely numbers must agree and why), on every instruction set of this machine.

use std::sync::atomic::AtomicBool;

use ctkvr_core::{AppendInput, CentroidChoice, HeadIndex, HeadInput, Phase, SelectorKind, SelectorOptions, TailInfo};
use ctkvr_kernels::Kernels;
use half::f16;
use serde_json::Value;

fn load() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../packages/testkit/golden/core-small/golden.json");
    let text = std::fs::read_to_string(path).expect("the golden file is in the repository");
    let golden: Value = serde_json::from_str(&text).expect("valid JSON");
    golden["cases"].as_array().expect("cases").clone()
}

fn integer(v: &Value) -> usize {
    v.as_u64().expect("an integer") as usize
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().expect("ids").iter().map(|x| integer(x) as u32).collect()
}

/// `null` stands for -infinity.
fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("numbers").iter().map(|x| x.as_f64().unwrap_or(f64::NEG_INFINITY)).collect()
}

fn halves(v: &Value) -> Vec<f32> {
    ids(v).into_iter().map(|bits| f16::from_bits(bits as u16).to_f32()).collect()
}

fn options(v: &Value) -> SelectorOptions {
    SelectorOptions {
        kind: SelectorKind::Ctkvr,
        num_sink_tokens: integer(&v["numSinkTokens"]),
        recent_window: integer(&v["recentWindow"]),
        num_centroids: integer(&v["numCentroids"]),
        centroids: CentroidChoice::Last,
        centroids_per_list: v["centroidsPerList"].as_u64().map_or(1, |n| n as usize),
        append_size: integer(&v["appendSize"]),
        list_len: integer(&v["listLength"]),
        num_probes: integer(&v["numProbes"]),
        max_selected: integer(&v["maxSelected"]),
        tail: v["tail"].as_bool().expect("a flag"),
        cluster_size: integer(&v["clusterSize"]),
        cluster_probes: integer(&v["clusterProbes"]),
        top_p: v["topP"].as_f64().expect("a number"),
        ..SelectorOptions::full()
    }
}

fn close(what: &str, actual: &[f32], expected: &[f64], budget: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: length");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let equal = f64::from(*a) == *e || (f64::from(*a) - e).abs() <= budget;
        assert!(equal, "{what}[{i}]: {a} for {e}, budget {budget}");
    }
}

/// Inputs of a case.
struct Head<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    queries: &'a [f32],
    d: usize,
    group: usize,
}

impl Head<'_> {
    /// Builds the case's index and lets its history happen.
    fn live(&self, case: &Value, options: &SelectorOptions, isa: &str, decodes: &[Vec<f32>]) -> HeadIndex {
        let (d, row, go) = (self.d, self.group * self.d, AtomicBool::new(false));
        let history = case.get("history");
        let built_at = history.map_or(self.keys.len() / d, |h| integer(&h["builtAt"]));
        let queries = if history.is_some() { &self.queries[..built_at * row] } else { self.queries };
        let (keys, values) = (&self.keys[..built_at * d], &self.values[..built_at * d]);
        let input = HeadInput { keys, values, queries, head_dim: d, group: self.group, options, isa };
        let mut index = HeadIndex::build(&input, &go).expect("built");
        for event in history.map_or(&[][..], |h| h["events"].as_array().expect("events")) {
            let outcome = match event["kind"].as_str().expect("a kind") {
                "extend" => index.extend(&go),
                "insert" => index.insert(&decodes[integer(&event["decode"])], &go),
                _ => {
                    let tokens = index.num_tokens()..index.num_tokens() + integer(&event["count"]);
                    let rows = |of: &'_ [f32], n: usize| of[tokens.start * n..tokens.end * n].to_vec();
                    let (keys, values, queries) = (rows(self.keys, d), rows(self.values, d), rows(self.queries, row));
                    let phase = if event["phase"] == "decode" { Phase::Decode } else { Phase::Prefill };
                    index.append(&AppendInput { keys: &keys, values: &values, queries: &queries, phase }, &go)
                }
            };
            outcome.expect("done");
        }
        index
    }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt()
}

#[test]
fn stages_match_the_reference() {
    for case in load() {
        for kernels in Kernels::available() {
            let d = integer(&case["headDim"]);
            if d.is_multiple_of(kernels.lanes) {
                check(&case, d, kernels.name);
            }
        }
    }
}

fn check(case: &Value, d: usize, isa: &str) {
    let name = format!("{} on {isa}", case["name"]);
    let (keys, values, queries) = (halves(&case["keys"]), halves(&case["values"]), halves(&case["queries"]));
    let (group, options) = (integer(&case["groupSize"]), options(&case["options"]));
    let decode_queries: Vec<Vec<f32>> =
        case["decodes"].as_array().expect("decodes").iter().map(|decode| halves(&decode["query"])).collect();
    let head = Head { keys: &keys, values: &values, queries: &queries, d, group };
    let index = head.live(case, &options, isa, &decode_queries);
    let longest_key = keys.chunks_exact(d).map(norm).fold(0.0, f64::max);
    for (c, expected) in case["centroids"].as_array().expect("centroids").iter().enumerate() {
        assert_eq!(index.list(c).expect("list"), ids(&expected["list"]), "{name}: list {c}");
    }
    check_tail(&name, index.tail(), &case["tail"]);
    for (i, expected) in case["decodes"].as_array().expect("decodes").iter().enumerate() {
        let query = halves(&expected["query"]);
        let probes = index.probe(&query).expect("probe");
        let centroids: Vec<u32> = probes.iter().map(|p| p.1).collect();
        assert_eq!(centroids, ids(&expected["probes"]), "{name}: probes {i}");
        let similarities: Vec<f32> = probes.iter().map(|p| p.0).collect();
        close(&format!("{name}: similarities {i}"), &similarities, &numbers(&expected["similarities"]), 0.006);
        let union = index.candidates(&centroids).expect("candidates");
        let candidates = index.widen(&query, &union).expect("widened");
        assert_eq!(candidates, ids(&expected["candidates"]), "{name}: candidates {i}");
        let scores = index.scores(&query, &candidates).expect("scores");
        let longest_query = query.chunks_exact(d).map(norm).fold(0.0, f64::max);
        close(&format!("{name}: scores {i}"), &scores, &numbers(&expected["scores"]), 1e-5 * longest_query * longest_key);
        let (_, selected) = index.select(&query).expect("select");
        assert_eq!(selected, ids(&expected["selected"]), "{name}: selected {i}");
        let attention = index.attend(&query).expect("attend");
        // A mean that rounds to its neighbour in f16 moves a score by half a unit of its size at most, and the output by that of a value.
        let half_unit = 2f64.powi(-11);
        let score_step = if options.tail { longest_query * longest_key * half_unit / (d as f64).sqrt() } else { 0.0 };
        let largest = values.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
        let budget = 1e-4 + score_step + CORRECTION_BUDGET;
        if options.tail {
            let (lse, value) = index.tail_at(&query, &candidates).expect("a tail");
            close(&format!("{name}: tail lse {i}"), &lse, &numbers(&expected["tailLse"]), budget);
            let value_budget = 1e-4 + largest * half_unit + 2.0 * score_step * largest;
            close(&format!("{name}: tail value {i}"), &value, &numbers(&expected["tailValue"]), value_budget);
        }
        close(&format!("{name}: lse {i}"), &attention.lse, &numbers(&expected["lse"]), budget);
        let output_budget = 1e-4 + largest * half_unit + 2.0 * budget * largest;
        close(&format!("{name}: output {i}"), &attention.output, &numbers(&expected["output"]), output_budget);
        let mass: f64 = numbers(&expected["mass"]).iter().sum();
        let difference = (attention.counters.estimated_mass - mass).abs();
        assert!(difference <= group as f64 * budget, "{name}: mass {i}: off by {difference}");
    }
}

/// A correction is a median of logarithms, each good to a few roundings of its scores.
const CORRECTION_BUDGET: f64 = 1e-3;

fn check_tail(name: &str, actual: Option<TailInfo>, expected: &Value) {
    let Some(tail) = actual else {
        assert!(expected.is_null(), "{name}: no tail");
        return;
    };
    close(&format!("{name}: corrections"), &tail.corrections, &numbers(&expected["corrections"]), CORRECTION_BUDGET);
    let segments = expected["segments"].as_array().expect("segments");
    assert_eq!(tail.segments.len(), segments.len(), "{name}: segments");
    for (segment, expected) in tail.segments.iter().zip(segments) {
        assert_eq!((segment.start, segment.made_at), (integer(&expected["start"]), integer(&expected["madeAt"])), "{name}");
        let clusters: Vec<u32> = segment.cluster_of.iter().map(|&c| u32::from(c)).collect();
        assert_eq!(clusters, ids(&expected["clusterOf"]), "{name}: clusters from {}", segment.start);
        for (what, actual, expected) in
            [("keys", &segment.keys, &expected["keys"]), ("values", &segment.values, &expected["values"])]
        {
            let expected = numbers(expected);
            let largest = expected.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            close(&format!("{name}: mean {what} from {}", segment.start), actual, &expected, largest * 2f64.powi(-10));
        }
    }
}

#[test]
fn bad_input_is_refused() {
    let options = SelectorOptions { kind: SelectorKind::Ctkvr, num_sink_tokens: 1, recent_window: 1, ..SelectorOptions::full() };
    let good = vec![1.0; 16 * 8];
    let build = |keys: &[f32], values: &[f32], queries: &[f32], head_dim| {
        HeadIndex::build(
            &HeadInput { keys, values, queries, head_dim, group: 2, options: &options, isa: "" },
            &AtomicBool::new(false),
        )
        .map(|i| i.num_tokens())
    };
    assert_eq!(build(&good, &good, &good, 16), Ok(8));
    assert!(build(&good[1..], &good, &good, 16).is_err(), "values longer than keys");
    assert!(build(&good, &good, &good[..16], 16).is_err(), "half a query group");
    assert!(build(&good, &good, &good, 15).is_err(), "head_dim no kernel takes");
    let mut bad = good.clone();
    bad[70] = f32::NAN;
    for (k, v, q) in [(&bad, &good, &good), (&good, &bad, &good), (&good, &good, &bad)] {
        assert!(build(k, v, q, 16).is_err(), "NaN");
    }
}
