//! Names of the parts of a split GGUF file, `<name>-00001-of-00003.gguf`, as llama-gguf-split writes them.

use std::path::Path;

/// The command that makes one file of the parts that `part` belongs to.
pub(crate) fn merge_command(part: &Path) -> String {
    let (first, whole) = first_and_whole(part).unwrap_or_else(|| ("FIRST-PART.gguf".into(), "MERGED.gguf".into()));
    format!("llama-gguf-split --merge {} {}", quoted(&first), quoted(&whole))
}

/// The paths of the first part and of the merged file; `None` when the name is not that of a part.
fn first_and_whole(part: &Path) -> Option<(String, String)> {
    let text = part.to_str()?;
    let (rest, count) = text.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let is_number = |digits: &str| digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(number) && is_number(count)).then(|| (format!("{name}-00001-of-{count}.gguf"), format!("{name}.gguf")))
}

/// As a shell takes it.
fn quoted(path: &str) -> String {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte));
    if is_plain { path.into() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_part_and_the_merged_file() {
        let command = |path: &str| merge_command(Path::new(path));
        assert_eq!(command("a/x-00002-of-00003.gguf"), "llama-gguf-split --merge a/x-00001-of-00003.gguf a/x.gguf");
        assert_eq!(command("my x-00001-of-00002.gguf"), "llama-gguf-split --merge 'my x-00001-of-00002.gguf' 'my x.gguf'");
        assert_eq!(command("it's-00001-of-00002.gguf"), "llama-gguf-split --merge 'it'\\''s-00001-of-00002.gguf' 'it'\\''s.gguf'");
        for other in ["part.gguf", "x-1-of-2.gguf", "x-00001-of-00002.bin"] {
            assert_eq!(command(other), "llama-gguf-split --merge FIRST-PART.gguf MERGED.gguf");
        }
    }
}
