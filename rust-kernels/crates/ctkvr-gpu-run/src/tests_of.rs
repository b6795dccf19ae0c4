//! The repository's own tests of kernels and engine, on this machine's driver: a process for each module of them. A test that loses the device takes
//! those behind it with it, so each that was not right runs once more by itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::Result;
use crate::line::Line;

/// Modules of tests that need the stand-in's counts.
const LEFT_OUT: &str = "on_the_stand_in";

/// Runs the tests of `program` whose names contain one of the filters, or all.
///
/// # Errors
/// When a test failed or did not end.
pub fn run(program: &str, step: &str, filters: &[&str]) -> Result<()> {
    let listed = Command::new(program).args(["--list", "--format", "terse"]).output()?;
    let text = String::from_utf8(listed.stdout)?;
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let wanted: Vec<&str> = names
        .into_iter()
        .filter(|name| !name.contains(LEFT_OUT) && (filters.is_empty() || filters.iter().any(|filter| name.contains(filter))))
        .collect();
    // What a report without a line for each of them did not see.
    Line::of(step).count("listed", wanted.len()).print()?;
    let mut wrong = 0;
    for tests in wanted.chunk_by(|a, b| module(a).is_some() && module(a) == module(b)) {
        let mut not_right = run_tests(program, step, tests)?;
        if not_right.len() > 1 {
            let again = not_right.iter().map(|test| run_tests(program, step, &[&test.name]));
            not_right = again.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        }
        for NotRight { name, outcome, why } in &not_right {
            Line::of(step).text("test", name).text("outcome", outcome).text("why", why).print()?;
        }
        wrong += not_right.len();
    }
    if wrong > 0 { Err(format!("{wrong} of {} tests are not right", wanted.len()).into()) } else { Ok(()) }
}

/// A test that failed or did not end.
struct NotRight {
    name: String,
    outcome: &'static str,
    why: String,
}

/// What stands before a test's name.
fn module(name: &str) -> Option<&str> {
    name.split_once("::").map(|(module, _)| module)
}

/// Tests of one process. Prints those that are right as they end, and returns the others.
fn run_tests(program: &str, step: &str, tests: &[&str]) -> Result<Vec<NotRight>> {
    let mut command = Command::new(program);
    command.args(["--test-threads=1", "--exact"]).args(tests).env("CTKVR_TEST_ON_DEVICE", "1").stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("the tests' output is not there")?;
    let mut seen = Seen::default();
    for text in BufReader::new(output).lines() {
        let text = text?;
        // The log has all of it.
        writeln!(std::io::stderr(), "{text}")?;
        if let Some((name, true)) = seen.take(&text) {
            Line::of(step).text("test", &name).text("outcome", "right").print()?;
        }
    }
    let status = child.wait()?;
    let mut not_right = Vec::new();
    for test in tests {
        match seen.ended.iter().find(|(name, _)| name == test) {
            Some((_, true)) => {}
            Some((_, false)) => {
                let why = seen.reasons.iter().find(|(name, _)| name == test).map_or_else(String::new, |(_, why)| why.trim().into());
                not_right.push(NotRight { name: (*test).into(), outcome: "wrong", why });
            }
            None => not_right.push(NotRight { name: (*test).into(), outcome: "died", why: status.to_string() }),
        }
    }
    Ok(not_right)
}

/// What a test program has said so far.
#[derive(Default)]
struct Seen {
    ended: Vec<(String, bool)>,
    /// The first words of each failure.
    reasons: Vec<(String, String)>,
    /// Whose output comes now.
    of: Option<String>,
}

/// Characters of a failure that a report shows; the log has the rest.
const REASON_LEN: usize = 400;

impl Seen {
    /// A line of the program's; a test that it says has ended, and whether well.
    fn take(&mut self, text: &str) -> Option<(String, bool)> {
        if let Some(name) = text.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.reasons.push((name.into(), String::new()));
            self.of = Some(name.into());
            return None;
        }
        if text == "failures:" {
            self.of = None;
        }
        if self.of.is_some() {
            if let Some((_, reason)) = self.reasons.last_mut()
                && reason.len() < REASON_LEN
            {
                reason.extend(text.chars().take(REASON_LEN));
                reason.push(' ');
            }
            return None;
        }
        let (name, outcome) = text.strip_prefix("test ")?.split_once(" ... ")?;
        // What a test prints to the terminal stands before its outcome.
        let is_right = outcome.ends_with("ok");
        (is_right || outcome.ends_with("FAILED")).then(|| {
            self.ended.push((name.into(), is_right));
            (name.into(), is_right)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn what_a_test_program_says_is_understood() {
        let text = "\nrunning 3 tests\ntest a::one ... ok\ntest a::two ... FAILED\n\nfailures:\n\n---- a::two stdout ----\n\n\
                    thread 'a::two' panicked at x.rs:3:5:\n3 is not 4\n\n\nfailures:\n    a::two\n\ntest result: FAILED. 1 passed; 1 failed\n";
        let mut seen = Seen::default();
        let ended: Vec<_> = text.lines().filter_map(|line| seen.take(line)).collect();
        assert_eq!(ended, [("a::one".into(), true), ("a::two".into(), false)]);
        assert_eq!(ended, seen.ended);
        let [(name, why)] = &seen.reasons[..] else { panic!("one failure: {:?}", seen.reasons) };
        assert!(name == "a::two" && why.contains("3 is not 4"), "{name}: {why}");
    }

    #[test]
    fn a_test_that_did_not_end_is_not_seen() {
        let mut seen = Seen::default();
        assert_eq!(seen.take("test a::one ... "), None);
        assert!(seen.ended.is_empty());
    }
}
