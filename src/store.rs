//! How files come into being, everywhere: private, exclusive, no symbolic link followed, replaced at once or not at all.
//!
//! Invariant: knows no format. Errors are the system's; whoever calls names the object.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Creates a private file that did not exist.
pub fn create_exclusive(path: &Path) -> io::Result<File> {
    // Rust opens every file close-on-exec. O_EXCL already refuses a symbolic link (open(2)); O_NOFOLLOW says so.
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Creates a private file that is to be moved to its place when it is whole ([`publish`]). What an earlier process
/// left there half-done is removed.
pub fn create_temporary(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create_exclusive(path)
}

/// Moves a whole file to its place, at once and for good: the file is synced before, the directory after. Whoever
/// looks there sees the old one or the new one.
pub fn publish(file: &File, temporary: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // A directory that may be written to but not read cannot be synced; the file itself is safe.
    if let Ok(directory) = File::open(directory(path)) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Replaces the contents of a file at once.
pub fn replace_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = beside(path, ".new");
    let mut file = create_temporary(&temporary)?;
    file.write_all(contents)?;
    publish(&file, &temporary, path)
}

/// A file without a name, in the directory for temporary files: gone with the process.
pub fn nameless() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("swath-{:032x}.tmp", rand::random::<u128>()));
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// The path with something behind its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory that holds `path`.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
