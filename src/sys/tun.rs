//! A network device of our own (`Documentation/networking/tuntap.rst`).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use super::checked;

/// A tun device that is down, has no address and carries nothing; gone when dropped, and when the process ends
/// however it ends.
#[derive(Debug)]
pub struct TunDevice {
    _file: File,
    name: String,
    index: u32,
}

impl TunDevice {
    /// A device whose name is `prefix` and the first free number, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// ENOENT when the kernel has no tun, EPERM without CAP_NET_ADMIN, InvalidInput for a prefix above 12 bytes.
    pub fn open(prefix: &str) -> io::Result<TunDevice> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
        let mut request = Request { name: [0; libc::IFNAMSIZ], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
        let pattern = format!("{prefix}%d");
        if libc::IFNAMSIZ - 1 < pattern.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.name[..pattern.len()].copy_from_slice(pattern.as_bytes());
        // SAFETY: TUNSETIFF reads and writes a struct ifreq, whose size and layout `Request` has; it outlives the
        // call, and the descriptor is open.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) })?;
        // SAFETY: the kernel left a name that ends with zero inside of the array, which outlives the call.
        let index = unsafe { libc::if_nametoindex(request.name.as_ptr().cast()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let length = request.name.iter().position(|&byte| byte == 0).unwrap_or(request.name.len());
        let name = String::from_utf8_lossy(&request.name[..length]).into_owned();
        Ok(TunDevice { _file: file, name, index })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in the kernel.
    pub fn index(&self) -> u32 {
        self.index
    }
}

/// `struct ifreq` with flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>(), "the kernel copies a whole ifreq");

// linux/if_tun.h
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
