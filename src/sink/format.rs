//! Text of the few things a record holds: numbers, addresses, times, words. What every line format is built from.
//!
//! A line is written into a fixed array through [`Line`], so that no call allocates and no call grows a buffer.
//!
//! Invariant: nothing here knows a format, a file or a clock, and nothing here takes bytes from the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::target::Protocol;

/// Room for one line. The longest line any format writes for a record stays below half of it (tested), and
/// the fixed-size copies below may touch a few bytes past the end of what they write.
pub(crate) const LINE_BYTES: usize = 512;

/// A line under construction.
pub(crate) struct Line<'a> {
    bytes: &'a mut [u8; LINE_BYTES],
    length: usize,
}

impl Line<'_> {
    /// An empty line in `bytes`, whatever they hold.
    #[inline]
    pub(crate) fn new(bytes: &mut [u8; LINE_BYTES]) -> Line<'_> {
        Line { bytes, length: 0 }
    }

    /// Number of bytes written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// What was written.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only text was written")
    }

    /// Appends text as it is. Inlined always: with a literal the copy becomes a few stores.
    #[inline(always)]
    pub(crate) fn text(&mut self, text: &str) {
        let end = self.length + text.len();
        self.bytes[self.length..end].copy_from_slice(text.as_bytes());
        self.length = end;
    }

    /// Appends bytes as they are, for formats that are no text.
    #[inline]
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// Appends a number in decimal.
    #[inline]
    pub(crate) fn decimal(&mut self, value: u32) {
        let end = self.length + digits(value);
        let mut rest = value;
        let mut at = end;
        while 100 <= rest {
            at -= 2;
            self.pair(at, rest % 100);
            rest /= 100;
        }
        if 10 <= rest {
            self.pair(at - 2, rest);
        } else {
            self.bytes[at - 1] = b'0' + low_byte(rest);
        }
        self.length = end;
    }

    /// Appends a number as exactly eight lower-case hexadecimal digits.
    pub(crate) fn hexadecimal(&mut self, value: u32) {
        for shift in (0..8).rev() {
            self.bytes[self.length] = HEX[(value >> (4 * shift)) as usize & 0xf];
            self.length += 1;
        }
    }

    /// Appends a number in decimal, of any size.
    pub(crate) fn decimal64(&mut self, value: u64) {
        match u32::try_from(value) {
            Ok(value) => self.decimal(value),
            Err(_) => self.text(&value.to_string()),
        }
    }

    /// Appends a number in decimal, right-aligned in a field of that width.
    pub(crate) fn right(&mut self, value: u32, width: usize) {
        (digits(value)..width).for_each(|_| self.text(" "));
        self.decimal(value);
    }

    /// Appends a link-layer address: `00:0c:29:aa:bb:cc`.
    pub(crate) fn mac(&mut self, octets: [u8; 6]) {
        for (index, octet) in octets.into_iter().enumerate() {
            if index != 0 {
                self.text(":");
            }
            self.bytes[self.length] = HEX[usize::from(octet >> 4)];
            self.bytes[self.length + 1] = HEX[usize::from(octet & 15)];
            self.length += 2;
        }
    }

    /// Appends an address: dotted decimal, or RFC 5952 text for IPv6.
    #[inline]
    pub(crate) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.address_v4(address),
            IpAddr::V6(address) => self.address_v6(address),
        }
    }

    #[inline]
    fn address_v4(&mut self, address: Ipv4Addr) {
        for octet in address.octets() {
            let (text, length) = OCTETS[usize::from(octet)];
            self.bytes[self.length..self.length + 4].copy_from_slice(&text);
            self.length += usize::from(length);
        }
        self.length -= 1; // the dot after the last octet
    }

    /// RFC 5952 section 4: lower case, no leading zeros, `::` for the first longest run of two or more zeros.
    fn address_v6(&mut self, address: Ipv6Addr) {
        let segments = address.segments();
        let (start, end) = longest_zeros(&segments);
        for (index, segment) in segments.into_iter().enumerate() {
            if start <= index && index < end {
                if index == start {
                    self.text("::");
                }
                continue;
            }
            if index != 0 && index != end {
                self.text(":");
            }
            self.segment(segment);
        }
    }

    fn segment(&mut self, segment: u16) {
        let length = (16 - segment.leading_zeros()).div_ceil(4).max(1);
        for shift in (0..length).rev() {
            self.bytes[self.length] = HEX[usize::from(segment >> (4 * shift)) & 0xf];
            self.length += 1;
        }
    }

    /// Appends an address and a port: `192.0.2.1:80`, `[2001:db8::1]:80`.
    pub(crate) fn endpoint(&mut self, address: IpAddr, port: u16) {
        match address {
            IpAddr::V4(address) => self.address_v4(address),
            IpAddr::V6(address) => {
                self.text("[");
                self.address_v6(address);
                self.text("]");
            }
        }
        self.text(":");
        self.decimal(u32::from(port));
    }

    /// Appends the name of a protocol, the same text as its `Display`.
    #[inline]
    pub(crate) fn protocol(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::TCP => self.text("tcp"),
            Protocol::UDP => self.text("udp"),
            Protocol::SCTP => self.text("sctp"),
            Protocol::ICMP => self.text("icmp"),
            Protocol::ICMPV6 => self.text("icmp6"),
            Protocol::ND => self.text("nd"),
            Protocol::ARP => self.text("arp"),
            Protocol::IP => self.text("ip"),
            Protocol(number) => {
                self.text("ip-proto-");
                self.decimal(u32::from(number));
            }
        }
    }

    /// Appends a time in nanoseconds since the Unix epoch as RFC 3339 UTC with microseconds, 27 bytes.
    #[inline]
    pub(crate) fn time(&mut self, time_ns: u64, seconds: &mut SecondCache) {
        let micros = low_half(time_ns % 1_000_000_000) / 1000;
        let at = self.length;
        self.bytes[at..at + 20].copy_from_slice(seconds.text(time_ns / 1_000_000_000));
        self.pair(at + 20, micros / 10_000);
        self.pair(at + 22, micros / 100 % 100);
        self.pair(at + 24, micros % 100);
        self.bytes[at + 26] = b'Z';
        self.length = at + 27;
    }

    /// Writes two digits at `at`; `value` is below 100.
    #[inline]
    fn pair(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    }
}

/// The text of the second last asked for: records come in the order of time, so one in a hundred thousand is new.
#[derive(Debug)]
pub(crate) struct SecondCache {
    second: u64,
    text: [u8; 20],
}

impl SecondCache {
    /// A cache that holds the epoch.
    pub(crate) fn new() -> SecondCache {
        SecondCache { second: 0, text: second_text(0) }
    }

    /// `2026-11-21T00:00:00.` for a second since the Unix epoch.
    #[inline]
    fn text(&mut self, second: u64) -> &[u8; 20] {
        if second != self.second {
            self.text = second_text(second);
            self.second = second;
        }
        &self.text
    }
}

/// RFC 3339 text of a second up to and including the decimal point. Good until the year 9999; a `u64` of
/// nanoseconds ends in 2554.
fn second_text(second: u64) -> [u8; 20] {
    let (year, month, day) = civil_from_days(second / 86_400);
    let clock = low_half(second % 86_400);
    let mut text = *b"0000-00-00T00:00:00.";
    let fields = [
        (0, year / 100),
        (2, year % 100),
        (5, month),
        (8, day),
        (11, clock / 3600),
        (14, clock / 60 % 60),
        (17, clock % 60),
    ];
    for (at, value) in fields {
        text[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    }
    text
}

/// A second since the Unix epoch as `asctime` has it, in UTC: `Sat Nov 21 00:52:52 2026`.
pub(crate) fn asctime(second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = second / 86_400;
    let (year, month, day) = civil_from_days(days);
    let clock = second % 86_400;
    let (weekday, month) = (DAYS[low_half(days % 7) as usize], MONTHS[month as usize - 1]);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

/// A second since the Unix epoch as `2026-11-21 00:52:52`, in UTC.
pub(crate) fn date_and_time(second: u64) -> String {
    let text = second_text(second);
    String::from_utf8_lossy(&text[..19]).replace('T', " ")
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`). Eras are 400 years that start on 1 March.
fn civil_from_days(days: u64) -> (u32, u32, u32) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (low_half(year), low_half(month), low_half(day))
}

/// Number of decimal digits.
#[inline]
fn digits(value: u32) -> usize {
    value.checked_ilog10().map_or(1, |power| power as usize + 1)
}

/// The first longest run of at least two zero segments as a half-open range; (9, 9) when there is none, so that
/// no index is inside and none equals its end.
fn longest_zeros(segments: &[u16; 8]) -> (usize, usize) {
    let mut best = (9, 9);
    let mut length = 1;
    let mut start = 0;
    for end in 1..=segments.len() {
        if segments[end - 1] != 0 {
            start = end;
        } else if length < end - start {
            length = end - start;
            best = (start, end);
        }
    }
    best
}

#[expect(clippy::cast_possible_truncation, reason = "callers pass what a division or remainder made small")]
#[inline]
const fn low_half(value: u64) -> u32 {
    value as u32
}

#[expect(clippy::cast_possible_truncation, reason = "callers pass a single digit")]
#[inline]
const fn low_byte(value: u32) -> u8 {
    value as u8
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value as usize] = [b'0' + low_byte(value / 10), b'0' + low_byte(value % 10)];
        value += 1;
    }
    pairs
};

/// Every octet in decimal with a dot behind it, and how many bytes that is.
const OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut value = 0_u32;
    while value < 256 {
        let (hundreds, tens, ones) =
            (b'0' + low_byte(value / 100), b'0' + low_byte(value / 10 % 10), b'0' + low_byte(value % 10));
        octets[value as usize] = match value {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        value += 1;
    }
    octets
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut bytes = [b'#'; LINE_BYTES];
        let mut line = Line::new(&mut bytes);
        write(&mut line);
        let length = line.len();
        String::from_utf8(bytes[..length].to_vec()).expect("ASCII")
    }

    fn time(time_ns: u64) -> String {
        written(|line| line.time(time_ns, &mut SecondCache::new()))
    }

    #[test]
    fn known_dates_are_written_as_rfc_3339() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00"),
            (68_169_599, "1972-02-28T23:59:59"),
            (68_169_600, "1972-02-29T00:00:00"),
            (68_256_000, "1972-03-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (978_307_199, "2000-12-31T23:59:59"),
            (1_234_567_890, "2009-02-13T23:31:30"),
            (1_795_219_200, "2026-11-21T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"), // 2100 is no leap year
            (18_446_744_073, "2554-07-21T23:34:33"),
        ] {
            assert_eq!(time(second * 1_000_000_000), format!("{text}.000000Z"));
        }
        assert_eq!(time(1_795_219_200_123_456_789), "2026-11-21T00:00:00.123456Z");
        assert_eq!(time(999_999_999), "1970-01-01T00:00:00.999999Z");
    }

    #[test]
    fn dates_are_written_as_the_c_library_writes_them() {
        assert_eq!(asctime(1_700_000_001), "Tue Nov 14 22:13:21 2023");
        assert_eq!(asctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(date_and_time(1_795_222_372), "2026-11-21 00:52:52");
        assert_eq!(written(|line| line.mac([0, 12, 41, 170, 187, 204])), "00:0c:29:aa:bb:cc");
        assert_eq!(written(|line| (line.right(80, 5), line.right(123_456, 5)).1), "   80123456");
        assert_eq!(written(|line| line.decimal64(u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn days_follow_each_other_through_the_calendar() {
        let mut expected = (1970, 1, 1);
        for days in 0..220_000 {
            assert_eq!(civil_from_days(days), expected);
            let (year, month, day) = expected;
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn the_cached_second_is_never_stale() {
        let mut seconds = SecondCache::new();
        for time_ns in [1_999_999_999, 2_000_000_000, 1_000_000_000, 0, 5_000_000_001] {
            assert_eq!(written(|line| line.time(time_ns, &mut seconds)), time(time_ns));
        }
    }

    #[test]
    fn every_protocol_is_named_as_its_display_names_it() {
        for number in 0..=u8::MAX {
            let protocol = Protocol(number);
            assert_eq!(written(|line| line.protocol(protocol)), protocol.to_string());
        }
    }

    #[test]
    fn addresses_at_the_edges_match_the_standard_library() {
        for text in [
            "::",
            "::1",
            "1::",
            "1::1",
            "0:1::",
            "1:0:0:2::",
            "1:0:0:2:0:0:0:3",
            "1:0:2:3:4:5:6:7",
            "0:1:0:1:0:1:0:1",
        ]
        .into_iter()
        .chain(["0.0.0.0", "255.255.255.255", "9.10.99.100", "2001:db8::", "::2:3:4:5:6:7:8"])
        {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(written(|line| line.address(address)), address.to_string());
        }
    }

    proptest! {
        #[test]
        fn numbers_match_the_standard_library(value: u32, shift in 0_u32..32) {
            let value = value >> shift;
            prop_assert_eq!(written(|line| line.decimal(value)), value.to_string());
            prop_assert_eq!(written(|line| line.hexadecimal(value)), format!("{value:08x}"));
        }

        #[test]
        fn addresses_match_the_standard_library(v4: u32, v6: u128, zeros: u8) {
            let v4 = Ipv4Addr::from(v4);
            prop_assert_eq!(written(|line| line.address(v4.into())), v4.to_string());
            let mut segments = Ipv6Addr::from(v6).segments();
            for (index, segment) in segments.iter_mut().enumerate() {
                *segment *= u16::from(zeros >> index & 1);
            }
            let v6 = Ipv6Addr::from(segments);
            prop_assume!(v6.to_ipv4_mapped().is_none());
            prop_assert_eq!(written(|line| line.address(v6.into())), v6.to_string());
            let endpoint = std::net::SocketAddr::new(v6.into(), 443).to_string();
            prop_assert_eq!(written(|line| line.endpoint(v6.into(), 443)), endpoint);
        }
    }
}
