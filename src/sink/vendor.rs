//! Who made a network interface, by the first three bytes of its address: the IEEE's public list as Debian's ieee-data has
//! it, or a file of the user's. Where there is neither nothing is said.
//!
//! Invariant: a name is printable ASCII of at most [`LONGEST`] bytes, whatever the file says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use super::SinkError;

/// Makers of network interfaces by the blocks of addresses they have.
#[derive(Default)]
pub(crate) struct Vendors {
    /// The list of a file that the user named; without one, that of this host.
    own: Option<Blocks>,
}

type Blocks = HashMap<[u8; 3], String>;

impl Vendors {
    /// The makers that a file names, or those that this host knows.
    ///
    /// # Errors
    /// For a file that cannot be read, or names nobody.
    pub(crate) fn of(file: Option<&Path>) -> Result<Vendors, SinkError> {
        let Some(file) = file else { return Ok(Vendors::default()) };
        let refused = |cause: String| SinkError {
            operation: "read",
            object: super::file::shown(file),
            cause,
            kind: super::SinkErrorKind::Refused,
        };
        let bytes = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
        let own = read(&String::from_utf8_lossy(&bytes));
        if own.is_empty() {
            return Err(refused(
                "it names no maker; --oui takes the IEEE's oui.txt, or lines like '286FB9 Nokia'".into(),
            ));
        }
        Ok(Vendors { own: Some(own) })
    }

    /// The maker of an address's block; `None` when the list does not know it, or there is no list.
    pub(super) fn name(&self, mac: [u8; 6]) -> Option<&str> {
        let [a, b, c, ..] = mac;
        self.own.as_ref().unwrap_or(&VENDORS).get(&[a, b, c]).map(String::as_str)
    }
}

static VENDORS: LazyLock<Blocks> = LazyLock::new(|| {
    std::fs::read(PLACE).map(|bytes| read(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
});

/// Reads lines of the forms `28-6F-B9   (hex)   Nokia Shanghai Bell Co., Ltd.` (IEEE), `286FB9 Nokia` (nmap) and
/// `28:6F:B9<tab>Nokia<tab>Nokia Shanghai Bell` (Wireshark); all others are for people. Longer blocks are left out.
fn read(text: &str) -> Blocks {
    let entry = |line: &str| {
        let (block, name) = line.split_once(char::is_whitespace)?;
        let digits: String = block.chars().filter(|letter| !matches!(letter, '-' | ':')).collect();
        let hexadecimal = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u32::from_str_radix(&digits, 16).ok().filter(|_| hexadecimal)?;
        let [_, a, b, c] = number.to_be_bytes();
        let name = name.trim();
        let name = ["(hex)", "(base 16)"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
        let name = name.trim().rsplit('\t').next()?.chars().filter(|letter| matches!(letter, ' '..='~'));
        let name: String = name.take(LONGEST).collect();
        (!name.is_empty()).then_some(([a, b, c], name))
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

    #[test]
    fn a_file_of_the_user_s_takes_the_place_of_the_host_s_in_any_of_the_usual_forms() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("makers");
        let written = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Vendors::of(Some(&path))
        };
        let lines =
            "# ours\n020000 Our Lab\n02:00:01\tShort\tThe Long Name\n02:00:02:00:00:00/28\tNobody\tNobody\n";
        let vendors = written(lines).expect("reads");
        for (block, name) in [(0, Some("Our Lab")), (1, Some("The Long Name")), (2, None)] {
            assert_eq!(vendors.name([2, 0, block, 1, 2, 3]), name);
        }
        assert_eq!(vendors.name([0x28, 0x6f, 0xb9, 0, 0, 0]), None, "the host's list is not asked");
        let error = written("nothing here\n").err().expect("refused");
        assert!(error.is_refusal() && error.to_string().contains("names no maker"), "{error}");
        assert!(Vendors::of(Some(Path::new("/no/such/file"))).is_err());
    }
}
