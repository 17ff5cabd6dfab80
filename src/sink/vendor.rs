//! Who made a network interface, by the first three bytes of its address: the IEEE's public list as Debian's ieee-data has
//! it. Read once, when the first address is told; where the list is not installed nothing is said.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The maker of an address's block; `None` when the list does not know it, or there is no list. At most
/// [`LONGEST`] bytes of printable ASCII.
pub(super) fn vendor(mac: [u8; 6]) -> Option<&'static str> {
    let [a, b, c, ..] = mac;
    VENDORS.get(&[a, b, c]).map(String::as_str)
}

static VENDORS: LazyLock<HashMap<[u8; 3], String>> = LazyLock::new(|| {
    std::fs::read(PLACE).map(|bytes| read(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
});

/// Reads lines of the form `28-6F-B9   (hex)   Nokia Shanghai Bell Co., Ltd.`; all others are for people.
fn read(text: &str) -> HashMap<[u8; 3], String> {
    let entry = |line: &str| {
        let (block, name) = line.split_once("(hex)")?;
        let mut bytes = block.trim().split('-').map(|part| u8::from_str_radix(part, 16).ok());
        let block = [bytes.next()??, bytes.next()??, bytes.next()??];
        let printable = name.trim().chars().filter(|letter| matches!(letter, ' '..='~'));
        bytes.next().is_none().then(|| (block, printable.take(LONGEST).collect()))
    };
    text.lines().filter_map(entry).collect()
}

/// Where Debian's ieee-data keeps it.
const PLACE: &str = "/usr/share/ieee-data/oui.txt";
/// Longest name that is shown, in bytes.
const LONGEST: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_their_names_and_nothing_else_is() {
        let text = "OUI/MA-L\t\t\tOrganization\r\n28-6F-B9   (hex)\t\tNokia Shanghai Bell Co., Ltd.\r\n\
                    286FB9     (base 16)\t\tNokia Shanghai Bell Co., Ltd.\r\n\t\t\t\tCN\r\n08-EA-44   (hex)\t\tA\u{1b}[31mB\r\nX-Y-Z (hex) no\r\n";
        let vendors = read(text);
        assert_eq!(vendors.len(), 2);
        assert_eq!(vendors[&[0x28, 0x6f, 0xb9]], "Nokia Shanghai Bell Co., Ltd.");
        assert_eq!(vendors[&[0x08, 0xea, 0x44]], "A[31mB");
    }
}
