//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Replaces the file at `path` by what `write` writes: to a new file beside it, `<name>.partial-<random>`, which is then renamed. On an error the
/// old file is as it was and the new one is gone; a process that is killed leaves the new one, which nobody reads. Readable by its owner
/// alone: it may hold what somebody wrote.
pub(crate) fn replace<T>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>) -> io::Result<T> {
    let Some(name) = path.file_name() else { return Err(io::Error::other("it names no file")) };
    let mut partial_name = name.to_os_string();
    partial_name.push(format!(".partial-{:016x}", RandomState::new().hash_one(std::process::id())));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial = folder.join(partial_name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let unfinished = Unfinished(&partial);
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let written = write(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    std::fs::rename(&partial, path)?;
    std::mem::forget(unfinished);
    // So that the new name is there after a power cut. Where a file system does not do it, the file is whole under either name.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(written)
}

/// Removes the file when it is dropped.
struct Unfinished<'a>(&'a PathBuf);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("ctkvr-atomic-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("saved");
        let names = || std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(replace(&path, |out| out.write_all(b"old").map(|()| 3)).unwrap(), 3);
        let full = replace(&path, |out| {
            out.write_all(&vec![0; 2 * BUFFER_BYTES])?;
            Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(std::panic::catch_unwind(|| replace(&path, |_| -> io::Result<()> { panic!("asked to") })).is_err());
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names().len()), (&b"old"[..], 1));
        replace(&path, |out| out.write_all(b"new")).unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), names().len()), (&b"new"[..], 1));
        // A folder in its place, no folder at all, no name.
        let taken = folder.join("taken");
        std::fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(replace(&taken, |out| out.write_all(b"new")).is_err());
        assert_eq!(names().len(), 2);
        assert!(replace(&folder.join("none/saved"), |_| Ok(())).is_err());
        assert!(replace(Path::new("/"), |_| Ok(())).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
