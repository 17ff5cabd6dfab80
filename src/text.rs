//! Text for people: grouped digits, scaled rates, durations, and words that cannot drive a terminal; and times that
//! people and files write.
//!
//! Invariant: what is written here is for standard error and `swath plan` only; result files carry plain numbers.

/// 1234567 as `1,234,567`.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index != 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The text with control characters other than line feeds escaped: what a user, a file or a path put into a message
/// does not move the cursor.
pub fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// A number and its noun: `1 target`, `1,234 addresses`.
pub fn counted(number: u128, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", grouped(number))
}

/// A quantity with three significant digits and a decimal prefix, ready for its unit: `1.49 M`, `99.7 k`, `512 `.
pub fn scaled(quantity: f64) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = quantity;
    let mut prefix = 0;
    while 999.5 <= value && prefix + 1 < prefixes.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let digits = if prefix == 0 && value.fract() == 0.0 {
        0
    } else if value < 0.1 {
        4
    } else if value < 9.995 {
        2
    } else {
        usize::from(value < 99.95)
    };
    format!("{value:.digits$} {}", prefixes[prefix])
}

/// Seconds as `3.5 s`, `12:05`, `3:07:09` or `12 d 3:00:00`.
pub fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    // Rounded up: a scan is not over before it is over.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast from float saturates, which is what is wanted"
    )]
    let whole = seconds.ceil() as u64;
    let (days, hours, minutes, rest) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{rest:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{rest:02}"),
        _ => format!("{} d {hours}:{minutes:02}:{rest:02}", grouped(days.into())),
    }
}

/// Nanoseconds since the Unix epoch of an RFC 3339 time with any offset and up to nine digits of fraction; `None` for
/// anything else and for times before 1970 or past 2554.
pub fn parse_time(text: &str) -> Option<u64> {
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
    fn numbers_read_well() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(1000), grouped(3_702_257_664)],
            ["0", "999", "1,000", "3,702,257,664"]
        );
        assert_eq!(
            [scaled(100.0), scaled(99_700.0), scaled(1_488_095.0), scaled(999_600.0), scaled(0.5)],
            ["100 ", "99.7 k", "1.49 M", "1.00 M", "0.50 "]
        );
        assert_eq!(
            [duration(3.5), duration(61.0), duration(3600.0), duration(90_061.0)],
            ["3.5 s", "1:01", "1:00:00", "1 d 1:01:01"]
        );
        assert_eq!(
            [scaled(0.001), counted(1, "target"), counted(1024, "address")],
            ["0.0010 ", "1 target", "1,024 addresses"]
        );
    }

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
