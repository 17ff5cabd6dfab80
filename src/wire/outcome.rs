//! What became of a connection that the operating system was asked for: the report of the connect link to the connect
//! probe, in the place where other links have frames.
//!
//! Layout, 28 bytes: version 1, outcome 1, pass 1, zero 1, address 16 (IPv4 as `::ffff:a.b.c.d`), port 2, zero 2,
//! microseconds from question to answer 4; numbers in network byte order.

use std::net::{IpAddr, Ipv6Addr};

use super::{Frame, Malformed, Segment, Transport};

/// Length of a report in bytes.
pub const LENGTH: usize = 28;

/// The protocol number that reports are read under: reserved by IANA, in no packet.
pub const PROTOCOL: u8 = 255;

/// How an attempt to connect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Connected.
    Connected = 1,
    /// ECONNREFUSED: a RST answered.
    Refused,
    /// ECONNRESET: connected and ended at once.
    Reset,
    /// EHOSTUNREACH.
    HostUnreachable,
    /// ENETUNREACH.
    NetUnreachable,
    /// EACCES, EPERM: prohibited, here or there.
    Prohibited,
    /// ENOPROTOOPT.
    ProtocolUnreachable,
    /// Anything else that says that the target was not reached.
    Unreachable,
}

impl Outcome {
    const ALL: [Outcome; 8] = [
        Outcome::Connected,
        Outcome::Refused,
        Outcome::Reset,
        Outcome::HostUnreachable,
        Outcome::NetUnreachable,
        Outcome::Prohibited,
        Outcome::ProtocolUnreachable,
        Outcome::Unreachable,
    ];
}

/// A report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The pass it belongs to.
    pub pass: u8,
    /// Whom we tried to reach.
    pub address: IpAddr,
    /// At which TCP port.
    pub port: u16,
    /// Microseconds from question to answer.
    pub elapsed_us: u32,
}

impl Report {
    /// The bytes of the report.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let address = match self.address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        bytes[..4].copy_from_slice(&[VERSION, self.outcome as u8, self.pass, 0]);
        bytes[4..20].copy_from_slice(&address.octets());
        bytes[20..22].copy_from_slice(&self.port.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.elapsed_us.to_be_bytes());
        bytes
    }

    /// Reads a report.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn new(bytes: &[u8]) -> Result<Report, Malformed> {
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| Malformed)?;
        let [VERSION, outcome, pass, 0, ..] = *bytes else { return Err(Malformed) };
        let outcome = Outcome::ALL.into_iter().find(|known| *known as u8 == outcome).ok_or(Malformed)?;
        let octets: [u8; 16] = bytes[4..20].try_into().map_err(|_| Malformed)?;
        Ok(Report {
            outcome,
            pass,
            address: Ipv6Addr::from(octets).to_canonical(),
            port: u16::from_be_bytes([bytes[20], bytes[21]]),
            elapsed_us: u32::from_be_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]),
        })
    }
}

/// Reads what a connect link received.
///
/// # Errors
/// When the bytes are no report.
pub fn read(bytes: &[u8]) -> Result<Frame<'_>, Malformed> {
    let report = Report::new(bytes)?;
    Ok(Frame::Segment(Segment {
        source: report.address,
        destination: report.address,
        ttl: 0,
        identification: 0,
        transport: Transport::Other { protocol: PROTOCOL, payload: bytes },
    }))
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_as_it_was_and_no_part_of_it_is_one() {
        for outcome in Outcome::ALL {
            for address in ["192.0.2.7", "2001:db8::7"] {
                let address = address.parse().expect("address");
                let report = Report { outcome, pass: 3, address, port: 443, elapsed_us: 0x0102_0304 };
                let bytes = report.to_bytes();
                assert_eq!(Report::new(&bytes).expect("whole"), report);
                assert!((0..LENGTH).all(|length| read(&bytes[..length]).is_err()));
                let Ok(Frame::Segment(segment)) = read(&bytes) else { panic!("a segment") };
                assert_eq!(segment.source, address);
            }
        }
        let mut bytes = [0; LENGTH];
        bytes[0] = VERSION;
        assert!(read(&bytes).is_err(), "no such outcome");
    }
}
