//! Text for people: grouped digits, scaled rates, durations, and words that cannot drive a terminal.
//!
//! Invariant: for standard error and `swath plan` only; result files carry plain numbers.

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
}
