//! Bugs on purpose, to test the tests: known bugs of other scanners and of our own kind, each at the line where it would
//! stand.
//!
//! A build with `--cfg planted` has all of them, asleep; the environment variable `SWATH_PLANTED` wakes one by its number.
//! One build serves all bugs (a build for each would take hours) and `scripts/planted` runs the tests against each. Any other
//! build has none: [`is`] is then a constant, and the compiler drops the wrong branch.
//!
//! Invariant: nothing here knows what a bug is about; [`BUGS`] says it in words, for the script and its readers.

/// `planted!(NUMBER, wrong, right)`: the right expression, unless the bug of that number is awake.
macro_rules! planted {
    ($number:literal, $wrong:expr, $right:expr) => {
        if $crate::planted::is($number) { $wrong } else { $right }
    };
}

/// Whether a bug is awake.
#[cfg(not(planted))]
#[inline(always)]
pub const fn is(_number: u32) -> bool {
    false
}

/// Whether a bug is awake.
#[cfg(planted)]
pub fn is(number: u32) -> bool {
    use std::sync::OnceLock;
    static AWAKE: OnceLock<u32> = OnceLock::new();
    let awake = || std::env::var("SWATH_PLANTED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    *AWAKE.get_or_init(awake) == number
}

/// Every bug: its number, and what it is.
pub const BUGS: &[(u32, &str)] = &[
    (1, "zmap #913: the last cursors alias the first, which are probed twice"),
    (2, "zmap #904: a 32-bit count ends a wide scan early"),
    (3, "zmap #953: probes after the first of a target bypass the rate limiter"),
    (4, "zmap: the remainder of the division among threads is nobody's"),
    (5, "masscan: N retries send (N+1)^2 probes"),
    (6, "masscan: a resumed shard scans another shard"),
    (7, "masscan: what a shard probes depends on the rate"),
    (8, "masscan #110: excludes are lost on resume"),
    (9, "a RST hides a later SYN-ACK: dedup without the class of the verdict"),
    (10, "masscan: any datagram to our port is a result"),
    (11, "masscan: ICMP errors are believed without the quoted sequence number"),
    (12, "ICMP errors are refused when a translator changed the IP identification"),
    (13, "zmap: ICMP errors that quote fewer than 20 bytes of TCP are refused"),
    (14, "masscan: a RST that acknowledges our first number is refused"),
    (15, "masscan: SYN and RST together are a closed port"),
    (16, "zmap #136: what the interface refused counts as sent"),
    (17, "what the interface refused takes its whole batch along: probes leave twice"),
    (18, "zmap #652: a stall is followed by a catch-up burst"),
    (19, "questions to neighbours are outside of the rate law"),
    (20, "the transmitter does not wait for the writer"),
    (21, "records are dropped when the writer's queue is full"),
    (22, "the writer stops when the queue is closed, not when it is empty"),
    (23, "a SYN-ACK is believed by its port alone"),
    (24, "a reply is believed by its number alone, to any port"),
    (25, "the first address of an exclude range slips through the subtraction"),
    (26, "the last gate looks at the first frame of a batch only"),
    (27, "all passes come from the same source port"),
    (28, "a valid reply from outside of the plan is a result"),
    (29, "a carry is lost in the checksum"),
    (30, "a pass begins without waiting for its gap"),
    (31, "the loss estimate counts every later answer as a recapture"),
    (32, "what a failing sink was given counts as written"),
    (33, "probes to a silent neighbour are dropped without an account"),
    (34, "a killed scan goes on without going back for replies under way"),
    (35, "a killed scan forgets the probes that waited"),
    (36, "forgotten entries of the seen table are not counted"),
    (37, "neighbours that nobody asked for fill the table"),
    (38, "shards overlap by one cursor"),
    // Planted by a fresh reader of the code: 42, 43, 44, 47 and 48 before any look at the tests of those places.
    (39, "a killed scan goes on as if every reply it had read stood in the results"),
    (40, "merged shards hold one of TCP and UDP for a port that answers both"),
    (41, "shard auto/N ignores the step of a Slurm array"),
    (42, "the second hangup lets go what the first one excluded"),
    (43, "open ports that are held back are counted nowhere"),
    (44, "the loss interval is the textbook one, which is empty when nothing was missed"),
    (45, "one ICMP error for each probe is taken for a ration"),
    (46, "connections for which there is no room count as sent"),
    (47, "what the disk refused counts as spooled"),
    (48, "a UDP answer with somebody else's transaction id is a result"),
    (49, "a probe that waited is taken for one that left in its turn, and not awaited again after a kill"),
    (50, "a neighbour is forgotten while probes to it are ready to leave"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_numbered_from_one_and_each_stands_in_the_source_once() {
        let mut places = vec![0; BUGS.len() + 1];
        let mut folders = vec![std::path::PathBuf::from("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name != "planted.rs") {
                    let text = std::fs::read_to_string(&path).expect("readable");
                    for part in text.split("planted!(").skip(1) {
                        let number: usize =
                            part.split(',').next().unwrap_or_default().trim().parse().expect("a number");
                        places[number] += 1;
                    }
                }
            }
        }
        assert!(BUGS.iter().enumerate().all(|(index, (number, _))| index + 1 == *number as usize));
        assert!(places[1..].iter().all(|&count| count == 1), "{places:?}");
    }

    #[test]
    fn nothing_is_awake_unless_somebody_said_so() {
        if std::env::var_os("SWATH_PLANTED").is_none() {
            assert!(BUGS.iter().all(|(number, _)| !is(*number)));
        }
    }
}
