//! Just enough of the basic encoding rules (ITU-T X.690) for answers of SNMP, LDAP and Kerberos.

use super::answer::Finding;

/// An element: its content and what follows it.
pub(super) struct Element<'a> {
    pub(super) content: &'a [u8],
    pub(super) rest: &'a [u8],
}

/// Reads one element of a tag (X.690 section 8.1).
///
/// # Errors
/// [`Finding::Truncated`] when it is not all there, [`Finding::Foreign`] for another tag and for forms that no answer
/// here uses.
pub(super) fn tagged(bytes: &[u8], tag: u8) -> Result<Element<'_>, Finding> {
    if bytes.first().is_some_and(|first| *first != tag) {
        return Err(Finding::Foreign);
    }
    let [_, first, rest @ ..] = bytes else { return Err(Finding::Truncated) };
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let digits = rest.get(..count).ok_or(Finding::Truncated)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), &rest[count..])
        }
        _ => return Err(Finding::Foreign),
    };
    let content = rest.get(..length).ok_or(Finding::Truncated)?;
    Ok(Element { content, rest: &rest[length..] })
}

/// The value of an integer's content; those above 32 bits are cut.
pub(super) fn integer(content: &[u8]) -> u32 {
    content.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub(super) const OCTETS: u8 = 0x04;
