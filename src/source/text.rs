//! What several formats share: values out of text, and the facts that a format leaves to be guessed.
//!
//! Invariant: pure functions of text; nothing here reads a file.

use std::net::IpAddr;

use crate::event::{Reason, Record, State};
use crate::target::{Port, Protocol, Target};

/// A record about a target that answered itself. An IPv4 address in IPv6 form means the IPv4 address.
pub(super) fn record(address: IpAddr, port: Port, state: State, reason: Reason) -> Record {
    let address = address.to_canonical();
    Record::new(Target { address, port }, address, state, reason)
}

/// The reason that goes with a state where the format tells none.
pub(super) fn usual_reason(protocol: Protocol, state: State) -> Reason {
    match (protocol, state) {
        (_, State::OpenFiltered) => Reason::NO_RESPONSE,
        (Protocol::TCP, State::Open) => Reason::SYN_ACK,
        (Protocol::TCP, State::Closed | State::Unfiltered) => Reason::RESET,
        (Protocol::UDP, State::Open) => Reason::UDP_RESPONSE,
        (Protocol::UDP, State::Closed) => Reason::PORT_UNREACH,
        (Protocol::SCTP, State::Open) => Reason::INIT_ACK,
        (Protocol::SCTP, State::Closed) => Reason::ABORT,
        (Protocol::ICMP | Protocol::ICMPV6, State::Open | State::Up) => Reason::ECHO_REPLY,
        (Protocol::ARP, State::Open | State::Up) => Reason::ARP_RESPONSE,
        (Protocol::ND, State::Open | State::Up) => Reason::ND_RESPONSE,
        (Protocol::IP, State::Open) => Reason::PROTO_RESPONSE,
        (Protocol::IP, State::Closed) => Reason::PROTO_UNREACH,
        (_, State::Filtered) => Reason::NO_RESPONSE,
        _ => Reason(0),
    }
}

/// Nanoseconds since the Unix epoch of an RFC 3339 time with any offset and up to nine digits of fraction; `None` for
/// anything else and for times before 1970 or past 2554.
pub(super) fn parse_time(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        digits
            .iter()
            .try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')))
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, separator)| bytes.get(at) != Some(&separator)) {
        return None;
    }
    matches!(bytes.get(10), Some(b'T' | b't' | b' ')).then_some(())?;
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || 23 < hour || 59 < minute || 60 < second {
        return None;
    }
    let (fraction, offset) = match bytes.get(19) {
        Some(b'.') => {
            let digits = bytes[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=9).contains(&digits).then_some(())?;
            let scale = 10_u64.pow(9 - u32::try_from(digits).ok()?);
            (number(20, 20 + digits)? * scale, 20 + digits)
        }
        _ => (0, 19),
    };
    let behind = match bytes.get(offset) {
        Some(b'Z' | b'z') if bytes.len() == offset + 1 => 0,
        Some(sign @ (b'+' | b'-')) if bytes.len() == offset + 6 && bytes[offset + 3] == b':' => {
            let minutes = number(offset + 1, offset + 3)? * 60 + number(offset + 4, offset + 6)?;
            let seconds = i64::try_from(minutes * 60).ok()?;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let seconds = days_from_civil(year, month, day).checked_mul(86_400)?;
    let seconds = seconds + i64::try_from(hour * 3600 + minute * 60 + second).ok()? - behind;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

/// Days since 1970-01-01 of a day of the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `days_from_civil`).
fn days_from_civil(year: u64, month: u64, day: u64) -> i64 {
    let year = year - u64::from(month <= 2 && 0 < year);
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    i64::try_from(era * 146_097 + day_of_era).unwrap_or(i64::MAX) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_fraction_and_offset() {
        for (text, time_ns) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-21T00:00:00.123456Z", 1_795_219_200_123_456_000),
            ("2026-11-21T00:00:00.123456789Z", 1_795_219_200_123_456_789),
            ("2026-11-21T02:00:00.5+02:00", 1_795_219_200_500_000_000),
            ("2026-11-20 19:00:00-05:00", 1_795_219_200_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2554-07-21T23:34:33.709551Z", 18_446_744_073_709_551_000),
        ] {
            assert_eq!(parse_time(text), Some(time_ns), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T00:00:00",
            "2026-13-21T00:00:00Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T00:00:00.Z",
            "2026-11-21T00:00:00.1234567890Z",
            "2026-11-21T00:00:00Zjunk",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2026-11-21T00:00:00+0200",
            "２026-11-21T00:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
