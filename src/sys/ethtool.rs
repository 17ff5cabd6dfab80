//! What a driver says of itself (`linux/ethtool.h`): questions that change nothing and need no privilege.

use std::io;
use std::os::fd::AsRawFd;

use super::{checked, socket};

/// How many queues an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive.
    pub receive: u32,
    /// Queues that transmit.
    pub transmit: u32,
    /// Most queues that could receive.
    pub receive_most: u32,
    /// Most queues that could transmit.
    pub transmit_most: u32,
}

/// How many frames the rings between driver and card hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// Received frames.
    pub receive: u32,
    /// Received frames at most.
    pub receive_most: u32,
    /// Frames to be sent.
    pub transmit: u32,
    /// Frames to be sent at most.
    pub transmit_most: u32,
}

/// The queues of the interface `name` in the network namespace of the calling thread.
///
/// # Errors
/// EOPNOTSUPP when its driver does not tell, ENODEV when there is no such interface.
pub fn channels(name: &str) -> io::Result<Channels> {
    let mut answer = [0u32; 9];
    ask(name, GET_CHANNELS, &mut answer)?;
    let [_, receive_most, transmit_most, _, combined_most, receive, transmit, _, combined] = answer;
    Ok(Channels {
        receive: receive + combined,
        transmit: transmit + combined,
        receive_most: receive_most + combined_most,
        transmit_most: transmit_most + combined_most,
    })
}

/// The rings of the interface `name`.
///
/// # Errors
/// As [`channels`].
pub fn rings(name: &str) -> io::Result<Rings> {
    let mut answer = [0u32; 9];
    ask(name, GET_RINGS, &mut answer)?;
    let [_, receive_most, _, _, transmit_most, receive, _, _, transmit] = answer;
    Ok(Rings { receive, receive_most, transmit, transmit_most })
}

/// The name of the driver.
///
/// # Errors
/// As [`channels`].
pub fn driver(name: &str) -> io::Result<String> {
    let mut answer = [0u32; 49];
    ask(name, GET_DRIVER, &mut answer)?;
    let bytes: Vec<u8> = answer[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

/// The speed of the interface in megabits a second; none when the driver does not know.
///
/// # Errors
/// As [`channels`].
pub fn speed_mbps(name: &str) -> io::Result<Option<u32>> {
    // struct ethtool_cmd: the low half of the speed stands at byte 12, the high half at byte 28.
    let mut answer = [0u32; 11];
    ask(name, GET_SETTINGS, &mut answer)?;
    let half = |word: u32| u32::from(u16::from_ne_bytes([word.to_ne_bytes()[0], word.to_ne_bytes()[1]]));
    let speed = half(answer[7]) << 16 | half(answer[3]);
    Ok((speed != 0 && speed != u32::MAX && speed != u32::from(u16::MAX)).then_some(speed))
}

/// A feature that a driver has or has not, by the commands that ask for one each.
///
/// # Errors
/// As [`channels`].
pub fn generic_receive_offload(name: &str) -> io::Result<bool> {
    let mut answer = [0u32; 2];
    ask(name, GET_GRO, &mut answer)?;
    Ok(answer[1] != 0)
}

/// Asks a question whose answer is a structure of 32-bit words, of which the first names the question.
fn ask(name: &str, question: u32, answer: &mut [u32]) -> io::Result<()> {
    if name.is_empty() || libc::IFNAMSIZ <= name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let socket = socket::open(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    answer[0] = question;
    let mut request = Request { name: [0; libc::IFNAMSIZ], answer: answer.as_mut_ptr(), rest: [0; 16] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: SIOCETHTOOL reads and writes a struct ifreq, whose size and layout `Request` has; its address leads to
    // `answer`, which the callers make as long as the structure of the question they ask, and both outlive the call.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) }).map(drop)
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    answer: *mut u32,
    rest: [u8; 16],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>(), "the kernel copies a whole ifreq");

// linux/sockios.h, linux/ethtool.h
const SIOCETHTOOL: u32 = 0x8946;
const GET_SETTINGS: u32 = 0x01;
const GET_DRIVER: u32 = 0x03;
const GET_RINGS: u32 = 0x10;
const GET_GRO: u32 = 0x2b;
const GET_CHANNELS: u32 = 0x3c;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_no_channels_and_a_name_too_long_is_refused() {
        let answers = [channels("lo").err(), rings("lo").err()];
        assert!(
            answers
                .iter()
                .all(|error| error.as_ref().and_then(io::Error::raw_os_error) == Some(libc::EOPNOTSUPP))
        );
        assert!(generic_receive_offload("lo").is_ok());
        assert!(channels("a name that no interface can have").is_err());
    }
}
