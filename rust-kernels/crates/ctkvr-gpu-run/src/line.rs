//! A line of results: JSON, appended to what the steps before have said, so that a step that dies takes nothing with it.

use std::io::Write;

use crate::Result;

/// One line, begun.
pub struct Line(String);

impl Line {
    /// Of a step of scripts/gpu/run.
    pub fn of(step: &str) -> Self {
        Self("{".into()).text("step", step)
    }

    pub fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, &quoted(value))
    }

    pub fn count(self, key: &str, value: usize) -> Self {
        self.raw(key, &value.to_string())
    }

    /// To four digits after the point; what is no number is null.
    pub fn number(self, key: &str, value: f64) -> Self {
        let text = if value.is_finite() { ((value * 1e4).round() / 1e4).to_string() } else { "null".into() };
        self.raw(key, &text)
    }

    /// Writes it.
    ///
    /// # Errors
    /// As writing.
    pub fn print(self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}}}", self.0)?;
        Ok(out.flush()?)
    }

    fn raw(mut self, key: &str, value: &str) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0 += &format!("{}:{value}", quoted(key));
        self
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out += "\\n",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_its_text() {
        let text = "a \"b\" \\ \n\t\u{7}é";
        let line = Line::of("s").text("why", text).count("n", 3).number("x", 1.0 / 3.0).number("nan", f64::NAN);
        let value: serde_json::Value = serde_json::from_str(&format!("{}}}", line.0)).expect("it is JSON");
        assert_eq!(value["why"], "a \"b\" \\ \n  é");
        assert_eq!((value["step"].as_str(), value["n"].as_u64(), value["x"].as_f64()), (Some("s"), Some(3), Some(0.3333)));
        assert!(value["nan"].is_null());
    }
}
