//! The options about queues and threads. No I/O.

use super::args::SENDING;
use crate::link::Queues;

/// How many threads send and receive, and where they run.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LinkArgs {
    /// Threads that send, each on a queue of its own; together they send every probe once, at one rate
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads, help_heading = SENDING)]
    pub tx_threads: usize,

    /// Threads that receive; what is heard of one address goes to one of them
    #[arg(long, value_name = "N", default_value = "1", value_parser = threads, help_heading = SENDING)]
    pub rx_threads: usize,

    /// Keep each of these threads on a processor of its own, those that send first
    #[arg(long, help_heading = SENDING)]
    pub pin: bool,
}

impl LinkArgs {
    /// The queues these threads need.
    pub fn queues(&self) -> Queues {
        Queues { tx: self.tx_threads, rx: self.rx_threads }
    }
}

fn threads(text: &str) -> Result<usize, String> {
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
