//! A file whose first part is memory: 64-bit words that survive the end of the process, whatever ended it
//! (`man 2 mmap`, MAP_SHARED: the page cache holds them, not the process).
//!
//! A store is one aligned 64-bit instruction, so no word is ever half written, and a process that is killed between two
//! stores leaves exactly those before. A power failure is another matter: [`SharedFile::sync`] bounds what it costs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::checked;
use super::mapping::Mapping;

/// Words in memory and, unless they are anonymous, in a file.
#[derive(Debug)]
pub struct SharedFile {
    file: Option<File>,
    mapping: Mapping,
    words: usize,
}

impl SharedFile {
    /// `words` words of zero that no file holds.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn anonymous(words: usize) -> io::Result<SharedFile> {
        Ok(SharedFile { file: None, mapping: Mapping::anonymous(words.max(1) * 8)?, words })
    }

    /// A new private file with `words` words of zero, locked against other processes. Its blocks are allocated now: a
    /// disk that fills later must not end the process at a store.
    ///
    /// # Errors
    /// When a file stands there already, and what the kernel says otherwise (a full disk, for one).
    pub fn create(path: &Path, words: usize) -> io::Result<SharedFile> {
        let file = options().create_new(true).mode(0o600).open(path)?;
        lock(&file)?;
        allocate(&file, words * 8)?;
        SharedFile::map(file, words)
    }

    /// A file that [`SharedFile::create`] made; `words` says how many words it has, given its first ones.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when it is shorter than its words, [`io::ErrorKind::WouldBlock`] when another
    /// process has it open, and what the kernel says otherwise.
    pub fn open(path: &Path, words: impl FnOnce(&[u64]) -> Option<usize>) -> io::Result<SharedFile> {
        let file = options().open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
        }
        lock(&file)?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is not what swath writes");
        let mut head = [0; 64];
        let mut read = 0;
        while read < head.len() {
            match file.read_at(&mut head[read..], read as u64)? {
                0 => return Err(invalid()),
                count => read += count,
            }
        }
        let head: Vec<u64> = head.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let words = words(&head).filter(|words| 8 <= *words).ok_or_else(invalid)?;
        let length = words.checked_mul(8).map(|bytes| bytes as u64).ok_or_else(invalid)?;
        if file.metadata()?.len() < length {
            return Err(invalid());
        }
        SharedFile::map(file, words)
    }

    fn map(file: File, words: usize) -> io::Result<SharedFile> {
        let mapping = Mapping::new(file.as_fd(), words * 8, 0)?;
        Ok(SharedFile { file: Some(file), mapping, words })
    }

    /// Number of words.
    pub fn words(&self) -> usize {
        self.words
    }

    /// A word, in the byte order of the file: little-endian ([`u64::to_le`]).
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words, "word {index} of {}", self.words);
        // SAFETY: the word lies inside of the mapping, which lives as long as `self` and starts at a multiple of the
        // page size, so it is aligned. This process reaches this memory through atomics only, and the lock keeps other
        // processes of this program out. (A stranger that shortens the file makes the access a SIGBUS, which ends the
        // process: the file is private.)
        unsafe { &*self.mapping.address().as_ptr().cast::<AtomicU64>().add(index) }
    }

    /// The file, for what stands behind the words.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Waits until the disk has words and file. Nothing to wait for without a file.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // SAFETY: the range is exactly the mapping, which lives as long as `self`.
        let synced = unsafe {
            libc::msync(self.mapping.address().as_ptr().cast(), self.mapping.length(), libc::MS_SYNC)
        };
        checked(synced)?;
        file.sync_data()
    }
}

/// A number that is another one after each start of the machine; 0 where the kernel tells none.
pub fn boot_number() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    options
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another process of swath uses it"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn allocate(file: &File, bytes: usize) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: no memory is involved; the descriptor is open.
    let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn words_are_in_the_file_and_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("words");
        let shared = SharedFile::create(&path, 1024).expect("created");
        shared.word(0).store(7u64.to_le(), Ordering::Relaxed);
        shared.word(1023).store(9u64.to_le(), Ordering::Relaxed);
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!((bytes.len(), bytes[0], bytes[1023 * 8]), (8192, 7, 9));
        let busy = SharedFile::open(&path, |_| Some(1024)).expect_err("in use");
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        shared.sync().expect("synced");
        drop(shared);
        let again = SharedFile::open(&path, |head| (head[0] == 7).then_some(1024)).expect("opened");
        assert_eq!(u64::from_le(again.word(1023).load(Ordering::Relaxed)), 9);
        drop(again);
        for words in [None, Some(7), Some(1025), Some(usize::MAX / 4)] {
            let refused = SharedFile::open(&path, |_| words).expect_err("not what it says");
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn the_machine_has_a_number_of_its_start() {
        assert_ne!(boot_number(), 0);
    }
}
