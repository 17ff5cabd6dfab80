//! Network namespaces.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::checked;

/// Moves the calling thread into the network namespace that `file` stands for (a file under `/run/netns`, or
/// `/proc/PID/ns/net`). Sockets opened from now on belong to it; sockets opened before stay where they are.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, EINVAL when the file is no network namespace.
pub fn enter_network(file: &File) -> io::Result<()> {
    // SAFETY: setns takes no pointer; the descriptor is open as long as `file` lives.
    checked(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}
