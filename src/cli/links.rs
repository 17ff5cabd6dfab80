//! The options about queues and threads. No I/O.

use super::args::SENDING;
use crate::closing::Who;
use crate::link::{Queues, Receive};

/// How many threads send and receive, and where they run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LinkArgs {
    /// Threads that send, each on a queue of its own; together they send every probe once, at one rate
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads, help_heading = SENDING)]
    pub tx_threads: usize,

    /// Threads that receive; what is heard of one address goes to one of them
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads, help_heading = SENDING)]
    pub rx_threads: usize,

    /// How answers are heard: packet (changes nothing), xdp (an XDP program takes SYN-ACKs from the kernel; on a real card
    /// it may reset the link) [default: xdp with --link af_xdp, else packet]
    #[arg(long, value_name = "HOW", value_parser = receive, help_heading = SENDING)]
    pub receive: Option<Receive>,

    /// Who closes half-open connections: kernel, swath (a table of the packet filter keeps the kernel from it), or auto:
    /// swath when answers are many or the kernel does not see them
    #[arg(long, value_name = "WHO", value_parser = who, default_value = "auto", help_heading = SENDING)]
    pub resets: Who,

    /// Keep each of these threads on a processor of its own, those that send first
    #[arg(long, help_heading = SENDING)]
    pub pin: bool,
}

impl LinkArgs {
    /// The queues these threads need.
    pub fn queues(&self) -> Queues {
        Queues { tx: self.tx_threads, rx: self.rx_threads }
    }

    /// How a link of that name receives.
    ///
    /// # Errors
    /// When several threads are to receive what one does.
    pub fn receive(&self, link: &str) -> Result<Receive, String> {
        // Several receive threads are a thing of packet sockets.
        let usual = if link == "af_xdp" && self.rx_threads == 1 { Receive::Xdp } else { Receive::Packet };
        let receive = self.receive.unwrap_or(usual);
        if receive == Receive::Xdp && self.rx_threads != 1 {
            return Err(
                "--receive xdp hears all queues in one thread: leave --rx-threads out, or --receive xdp"
                    .into(),
            );
        }
        Ok(receive)
    }
}

fn receive(text: &str) -> Result<Receive, String> {
    match text.to_ascii_lowercase().as_str() {
        "packet" => Ok(Receive::Packet),
        "xdp" => Ok(Receive::Xdp),
        _ => Err(format!("answers are not heard by '{text}'; write packet or xdp")),
    }
}

fn who(text: &str) -> Result<Who, String> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(Who::Auto),
        "kernel" => Ok(Who::Kernel),
        "swath" => Ok(Who::Swath),
        _ => Err(format!("'{text}' closes no connections; write auto, kernel or swath")),
    }
}

pub(super) fn threads(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=Queues::MOST).contains(count));
    count.ok_or_else(|| format!("'{text}' is no number of threads; write 1 to {}", Queues::MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_from_one_and_bounded() {
        assert_eq!((threads("1"), threads("64")), (Ok(1), Ok(64)));
        for bad in ["0", "65", "", "two", "-1"] {
            assert!(threads(bad).is_err(), "{bad}");
        }
    }
}
