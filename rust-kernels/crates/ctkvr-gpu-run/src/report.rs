//! All lines of a run as report.json and report.md.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Result;

/// A table of the report: the lines of one step.
struct Section {
    step: &'static str,
    title: &'static str,
    about: &'static str,
    /// Key of a line, and its column's head.
    columns: &'static [(&'static str, &'static str)],
}

const SECTIONS: &[Section] = &[
    Section {
        step: "facts",
        title: "Machine",
        about: "",
        columns: &[
            ("device", "device"),
            ("capability", "capability"),
            ("multiprocessors", "multiprocessors"),
            ("memory_gb", "memory, GB"),
            ("free_gb", "free, GB"),
            ("driver_api", "driver's API"),
            ("cpus", "CPUs"),
            ("families_loaded", "families of kernels loaded"),
            ("note", ""),
        ],
    },
    Section {
        step: "ceilings",
        title: "Ceilings",
        about: "The best of some rounds for bytes a second, medians for times.",
        columns: &[("what", "what"), ("value", "value"), ("unit", "")],
    },
    Section {
        step: "kernels",
        title: "Kernels of a decode",
        about: "Medians over graphs of all layers. MB: what a launch has to read. %: of the time that these bytes take at the rate at which a \
                kernel reads device memory. Stages of a search (probe to merge) are differences of graphs that end behind them.",
        columns: &[
            ("sequences", "sequences"),
            ("kernel", "kernel"),
            ("us", "us a launch"),
            ("mb", "MB"),
            ("percent", "% of the byte ceiling"),
        ],
    },
    Section {
        step: "decode",
        title: "Decode",
        about: "A token of each sequence: random 4-bit weights, keys, values and indexes made up. Medians of rounds in which the contenders take \
                turns. Host: keys and values lie in host memory, one sequence's for all of them, and the CPU scores and attends to what is listed; \
                by the host's clock, halves of the sequences in turns. CPU: its part of a step. Attention: of all layers, with its search. Cosine: of outputs of the last layer's attention. %: of the time that the bytes take at the rate at which a kernel reads device memory.",
        columns: &[
            ("sequences", "sequences"),
            ("reads", "reads"),
            ("step_ms", "step, ms"),
            ("tokens_s", "tokens/s"),
            ("step_gb", "GB"),
            ("step_percent", "% of the byte ceiling"),
            ("step_times_dense", "x dense"),
            ("cpu_ms", "CPU, ms"),
            ("attention_ms", "attention, ms"),
            ("attention_gb", "GB"),
            ("attention_percent", "% of the byte ceiling"),
            ("attention_times_dense", "x dense"),
            ("scored_a_head", "scored a head"),
            ("selected_a_head", "selected a head"),
            ("cosine", "cosine to dense"),
            ("read_gb_s", "read, GB/s"),
            ("note", ""),
        ],
    },
    Section {
        step: "torch",
        title: "PyTorch SDPA",
        about: "scaled_dot_product_attention in a CUDA graph at the same shapes, and our attention of the same run.",
        columns: &[
            ("torch", "PyTorch"),
            ("backend", "backend"),
            ("sequences", "sequences"),
            ("attention_ms", "attention of all layers, ms"),
            ("attention_gb", "GB"),
            ("ours_dense_ms", "ours, dense, ms"),
            ("ours_ctkvr_ms", "ours, CTkvr, ms"),
            ("note", ""),
        ],
    },
    Section {
        step: "prefill",
        title: "Prefill",
        about: "A prompt through all layers and the choice of a token, in pieces.",
        columns: &[("tokens", "tokens"), ("piece", "tokens of a piece"), ("ms", "ms"), ("tokens_s", "tokens/s")],
    },
    Section {
        step: "index",
        title: "Index build",
        about: "Of keys, values and queries that are made up. The second time on the device has its memory. Same: of the CPU's lists, what the \
                device's hold.",
        columns: &[
            ("on", "on"),
            ("positions", "positions"),
            ("side_by_side", "heads side by side"),
            ("ms_of_a_head", "ms a head"),
            ("same_percent", "same, %"),
        ],
    },
    Section {
        step: "sanitizers",
        title: "Sanitizers",
        about: "compute-sanitizer over small decodes and prompts.",
        columns: &[("tool", "tool"), ("of", "of"), ("outcome", "outcome"), ("summary", "what it said")],
    },
    Section {
        step: "profile",
        title: "Nsight Compute",
        about: "ncu on three kernels. Raw figures: profile.csv beside this page.",
        columns: &[("outcome", "outcome"), ("note", "")],
    },
];

/// Steps whose lines are tests.
const TESTED: &[(&str, &str)] =
    &[("right-kernels", "Every kernel against its reference"), ("right-engine", "The engine's tests on small models")];

pub fn run(lines: &Path, folder: &Path) -> Result<()> {
    let text = fs::read_to_string(lines)?;
    let (mut all, mut unreadable) = (Vec::new(), 0);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => all.push(value),
            // A step that was stopped in the middle of a line.
            Err(_) => unreadable += 1,
        }
    }
    put_ours_beside_torch(&mut all);
    let report = Report { lines: all, unreadable };
    fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report.json())? + "\n")?;
    fs::write(folder.join("report.md"), report.page())?;
    Ok(())
}

/// Adds to each of PyTorch's times what ours were for as many sequences.
fn put_ours_beside_torch(lines: &mut [Value]) {
    let decodes: Vec<Value> = lines.iter().filter(|line| line["step"] == "decode").cloned().collect();
    for line in lines.iter_mut().filter(|line| line["step"] == "torch" && line["attention_ms"].is_number()) {
        for (reads, key) in [("dense", "ours_dense_ms"), ("ctkvr", "ours_ctkvr_ms")] {
            let ours = decodes.iter().find(|ours| ours["sequences"] == line["sequences"] && ours["reads"] == reads);
            line[key] = ours.map_or(Value::Null, |ours| ours["attention_ms"].clone());
        }
    }
}

struct Report {
    lines: Vec<Value>,
    unreadable: usize,
}

/// Outcomes of the tests of one step.
struct Tested<'a> {
    listed: usize,
    right: usize,
    /// Test, outcome and why.
    wrong: Vec<(&'a str, &'a str, &'a str)>,
}

impl Tested<'_> {
    fn not_run(&self) -> usize {
        self.listed.saturating_sub(self.right + self.wrong.len())
    }

    fn is_right(&self) -> bool {
        self.listed > 0 && self.right == self.listed
    }
}

impl Report {
    fn of<'a>(&'a self, step: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["step"] == step)
    }

    fn tested<'a>(&'a self, step: &'a str) -> Tested<'a> {
        let word = |line: &'a Value, key: &str| line[key].as_str().unwrap_or_default();
        let outcomes = || self.of(step).filter(|line| line["outcome"].is_string());
        let wrong = outcomes().filter(|line| line["outcome"] != "right");
        Tested {
            listed: self.of(step).filter_map(|line| line["listed"].as_u64()).sum::<u64>() as usize,
            right: outcomes().filter(|line| line["outcome"] == "right").count(),
            wrong: wrong.map(|line| (word(line, "test"), word(line, "outcome"), word(line, "why"))).collect(),
        }
    }

    fn json(&self) -> Value {
        let tested = |step: &str| {
            let of = self.tested(step);
            let wrong: Vec<Value> =
                of.wrong.iter().map(|(test, outcome, why)| json!({"test": test, "outcome": outcome, "why": why})).collect();
            json!({"listed": of.listed, "right": of.right, "wrong": wrong, "notRun": of.not_run(), "allRight": of.is_right()})
        };
        let steps: serde_json::Map<String, Value> =
            SECTIONS.iter().map(|section| (section.step.into(), Value::Array(self.of(section.step).cloned().collect()))).collect();
        json!({
            "version": 1,
            "run": self.of("run").collect::<Vec<_>>(),
            "outcomes": self.of("outcome").collect::<Vec<_>>(),
            "tests": {"kernels": tested(TESTED[0].0), "engine": tested(TESTED[1].0)},
            "steps": steps,
            "unreadableLines": self.unreadable,
        })
    }

    fn page(&self) -> String {
        let rehearsal = self.of("run").any(|line| line["rehearsal"] == "yes");
        let mut page = String::from("# A run on a card\n\nWritten by `scripts/gpu/run`.\n");
        if rehearsal {
            page = "# A rehearsal: no figure here is a card's\n\nThe driver was the stand-in, which runs kernels on the CPU, and shapes were tiny. \
                    Written by `scripts/gpu/run --rehearse`.\n"
                .into();
        }
        let outcomes = Section {
            step: "outcome",
            title: "Steps",
            about: "",
            columns: &[("of", "step"), ("outcome", "outcome"), ("seconds", "seconds"), ("limit", "limit")],
        };
        page += &self.section(&outcomes);
        if self.unreadable > 0 {
            page += &format!("\n{} lines could not be read: a step was stopped in the middle of one.\n", self.unreadable);
        }
        for (i, section) in SECTIONS.iter().enumerate() {
            page += &self.section(section);
            // Behind the machine: whether its answers are right.
            if i == 0 {
                TESTED.iter().for_each(|(step, title)| page += &self.tests(step, title));
            }
        }
        page
    }

    fn tests(&self, step: &str, title: &str) -> String {
        let of = self.tested(step);
        let mut text = format!("\n## {title}\n\n");
        if of.listed == 0 {
            return text + "Not run.\n";
        }
        text += &format!("{} of {} tests are right, {} were not run.\n", of.right, of.listed, of.not_run());
        for (test, outcome, why) in of.wrong {
            text += &format!("\n- `{test}`: {outcome}. {}\n", why.trim().replace('\n', " "));
        }
        text
    }

    fn section(&self, section: &Section) -> String {
        let mut text = format!("\n## {}\n\n", section.title);
        if !section.about.is_empty() {
            text += &format!("{}\n\n", section.about);
        }
        let lines: Vec<&Value> = self.of(section.step).collect();
        if lines.is_empty() {
            return text + "Nothing: the step did not get so far.\n";
        }
        let columns: Vec<_> = section.columns.iter().filter(|(key, _)| lines.iter().any(|line| !line[*key].is_null())).collect();
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        text += &row(columns.iter().map(|(_, head)| (*head).into()).collect());
        text += &format!("|{}\n", "---|".repeat(columns.len()));
        for line in lines {
            text += &row(columns.iter().map(|(key, _)| cell(&line[*key])).collect());
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace('|', "\\|").replace('\n', " "),
        Value::Number(number) => shortened(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

/// Whole numbers as they are, others to three digits or the point.
fn shortened(x: f64) -> String {
    let digits = match x.abs() {
        _ if x == x.trunc() => 0,
        1000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    format!("{x:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[Value]) -> Report {
        Report { lines: lines.to_vec(), unreadable: 0 }
    }

    #[test]
    fn a_test_that_has_no_outcome_makes_the_kernels_not_right() {
        let listed = json!({"step": "right-kernels", "listed": 2});
        let right = |test: &str| json!({"step": "right-kernels", "test": test, "outcome": "right"});
        let of = |lines: &[Value]| report(lines).json()["tests"]["kernels"].clone();
        assert_eq!(of(&[])["allRight"], false);
        let all = of(&[listed.clone(), right("a"), right("b")]);
        assert_eq!((&all["allRight"], &all["notRun"]), (&json!(true), &json!(0)));
        let some = of(&[listed.clone(), right("a")]);
        assert_eq!((&some["allRight"], &some["notRun"]), (&json!(false), &json!(1)));
        let wrong = json!({"step": "right-kernels", "test": "b", "outcome": "wrong", "why": "3 is not 4"});
        let failed = of(&[listed, right("a"), wrong]);
        assert_eq!(failed["allRight"], false);
        assert_eq!(failed["wrong"], json!([{"test": "b", "outcome": "wrong", "why": "3 is not 4"}]));
    }

    #[test]
    fn ours_stands_beside_torchs_of_as_many_sequences() {
        let ours = |n: u32, reads: &str, ms: f64| json!({"step": "decode", "sequences": n, "reads": reads, "attention_ms": ms});
        let torch = json!({"step": "torch", "sequences": 2, "attention_ms": 5.0});
        let mut lines = [ours(1, "dense", 1.0), ours(2, "dense", 2.0), ours(2, "ctkvr", 3.0), torch];
        put_ours_beside_torch(&mut lines);
        assert_eq!((&lines[3]["ours_dense_ms"], &lines[3]["ours_ctkvr_ms"]), (&json!(2.0), &json!(3.0)));
        assert!(lines[..3].iter().all(|line| line["ours_dense_ms"].is_null()));
    }

    #[test]
    fn a_page_has_every_section_also_of_steps_that_did_not_run() {
        let page = report(&[json!({"step": "decode", "sequences": 1, "reads": "dense", "step_ms": 12.3456})]).page();
        for section in SECTIONS {
            assert!(page.contains(&format!("## {}\n", section.title)), "{}", section.title);
        }
        assert!(page.contains("| sequences | reads | step, ms |\n|---|---|---|\n| 1 | dense | 12.35 |\n"), "{page}");
        assert!(page.contains("## Ceilings") && page.contains("the step did not get so far"));
        assert!(page.starts_with("# A run on a card"));
        assert!(
            report(&[json!({"step": "run", "rehearsal": "yes"})]).page().starts_with("# A rehearsal: no figure here is a card's\n")
        );
    }
}
