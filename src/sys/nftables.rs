//! A table of the packet filter that is ours alone (`linux/netfilter/nf_tables.h`, `linux/netfilter/nfnetlink.h`).
//!
//! The table has an owner, the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12): nobody else can change it, and it
//! goes with the socket, so after SIGKILL nothing is left.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::netlink::messages;
use super::socket;

/// Which segments a table drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynAcks {
    /// To these addresses.
    pub addresses: Vec<IpAddr>,
    /// To ports from this one on.
    pub port_first: u16,
    /// Up to this one.
    pub port_last: u16,
}

/// A table that drops SYN-ACKs before the network stack answers them. Packet sockets hear them all the same: they listen
/// before it. Gone when dropped.
#[derive(Debug)]
pub struct Table {
    _socket: OwnedFd,
}

impl Table {
    /// The name of the table of this process.
    pub fn name() -> String {
        format!("swath_{}", std::process::id())
    }

    /// Makes the table in the network namespace of the calling thread.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, EPROTONOSUPPORT, EOPNOTSUPP or EINVAL where the kernel has no such filter.
    pub fn drop_syn_acks(wanted: &SynAcks) -> io::Result<Table> {
        let socket = socket::open(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
        let name = Table::name();
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, (0, SUBSYSTEM), |_| {});
        batch.message(NEW_TABLE, CREATE | ACKNOWLEDGE, (FAMILY_INET, 0), |body| {
            body.text(TABLE_NAME, &name);
            body.number(TABLE_FLAGS, OWNER);
        });
        batch.message(NEW_CHAIN, CREATE | ACKNOWLEDGE, (FAMILY_INET, 0), |body| {
            body.text(CHAIN_TABLE, &name);
            body.text(CHAIN_NAME, "answers");
            body.nested(CHAIN_HOOK, |hook| {
                hook.number(HOOK_NUMBER, PREROUTING);
                hook.number(HOOK_PRIORITY, RAW.cast_unsigned());
            });
            body.text(CHAIN_TYPE, "filter");
        });
        for address in &wanted.addresses {
            batch.message(NEW_RULE, CREATE | APPEND | ACKNOWLEDGE, (FAMILY_INET, 0), |body| {
                body.text(RULE_TABLE, &name);
                body.text(RULE_CHAIN, "answers");
                body.nested(RULE_EXPRESSIONS, |list| rule(list, *address, wanted));
            });
        }
        batch.message(BATCH_END, 0, (0, SUBSYSTEM), |_| {});
        send(&socket, &batch.bytes)?;
        acknowledged(&socket, 2 + wanted.addresses.len())?;
        Ok(Table { _socket: socket })
    }
}

/// The expressions of the rule for one address of ours.
fn rule(list: &mut Body, address: IpAddr, wanted: &SynAcks) {
    let (family, octets, offset) = match address {
        IpAddr::V4(address) => (2, address.octets().to_vec(), 16),
        IpAddr::V6(address) => (10, address.octets().to_vec(), 24),
    };
    list.expression("meta", |meta| {
        meta.number(META_REGISTER, REGISTER);
        meta.number(META_KEY, META_NFPROTO);
    });
    list.compare(EQUAL, &[family]);
    list.expression("meta", |meta| {
        meta.number(META_REGISTER, REGISTER);
        meta.number(META_KEY, META_L4PROTO);
    });
    list.compare(EQUAL, &[6]);
    list.payload(NETWORK_HEADER, offset, octets.len() as u32);
    list.compare(EQUAL, &octets);
    list.payload(TRANSPORT_HEADER, 2, 2);
    list.compare(NOT_BELOW, &wanted.port_first.to_be_bytes());
    list.compare(NOT_ABOVE, &wanted.port_last.to_be_bytes());
    // SYN and ACK, whatever else is set.
    list.payload(TRANSPORT_HEADER, 13, 1);
    list.expression("bitwise", |bitwise| {
        bitwise.number(BITWISE_SOURCE, REGISTER);
        bitwise.number(BITWISE_DESTINATION, REGISTER);
        bitwise.number(BITWISE_LENGTH, 1);
        bitwise.nested(BITWISE_MASK, |mask| mask.bytes(DATA_VALUE, &[0x12]));
        bitwise.nested(BITWISE_XOR, |xor| xor.bytes(DATA_VALUE, &[0]));
    });
    list.compare(EQUAL, &[0x12]);
    list.expression("immediate", |immediate| {
        immediate.number(IMMEDIATE_REGISTER, VERDICT_REGISTER);
        immediate.nested(IMMEDIATE_DATA, |data| {
            data.nested(DATA_VERDICT, |verdict| verdict.number(VERDICT_CODE, DROP));
        });
    });
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`, which outlives the call; the descriptor is open. An
    // unconnected netlink socket sends to the kernel.
    let sent = unsafe { libc::send(socket.as_fd().as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads so many acknowledgements; the kernel answers within the call that sent the batch.
fn acknowledged(socket: &OwnedFd, count: usize) -> io::Result<()> {
    let mut left = count;
    let mut buffer = vec![0u8; 64 << 10];
    while 0 < left {
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which outlives the call; the descriptor is
        // open. It does not wait: what is not there now never comes.
        let length = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        for message in messages(&buffer[..length.min(buffer.len())]) {
            if i32::from(message.kind) != libc::NLMSG_ERROR {
                continue;
            }
            let code =
                message.body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(())
}

/// Messages one after the other.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    /// A message with the family and the resource of `struct nfgenmsg`, and attributes.
    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        (family, resource): (u8, u16),
        write: impl FnOnce(&mut Body),
    ) {
        let start = self.bytes.len();
        self.sequence += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        let mut body = Body::default();
        write(&mut body);
        self.bytes.extend(body.0);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Attributes one after the other, each padded to four bytes.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn nested(&mut self, kind: u16, write: impl FnOnce(&mut Body)) {
        let mut inner = Body::default();
        write(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }

    /// An element of a list of expressions.
    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Body)) {
        self.nested(LIST_ELEMENT, |element| {
            element.text(EXPRESSION_NAME, name);
            element.nested(EXPRESSION_DATA, write);
        });
    }

    /// Loads bytes of the packet into the register.
    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |payload| {
            payload.number(PAYLOAD_REGISTER, REGISTER);
            payload.number(PAYLOAD_BASE, base);
            payload.number(PAYLOAD_OFFSET, offset);
            payload.number(PAYLOAD_LENGTH, length);
        });
    }

    /// Goes on with the rule only if what was loaded compares so with `value`.
    fn compare(&mut self, how: u32, value: &[u8]) {
        self.expression("cmp", |compare| {
            compare.number(COMPARE_REGISTER, REGISTER);
            compare.number(COMPARE_HOW, how);
            compare.nested(COMPARE_DATA, |data| data.bytes(DATA_VALUE, value));
        });
    }
}

// linux/netlink.h, linux/netfilter/nfnetlink.h
const NESTED: u16 = 0x8000;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const APPEND: u16 = libc::NLM_F_APPEND as u16;
const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
// linux/netfilter/nf_tables.h
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const OWNER: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const PREROUTING: u32 = 0;
/// Before connections are tracked.
const RAW: i32 = -300;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const META_REGISTER: u16 = 1;
const META_KEY: u16 = 2;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const PAYLOAD_REGISTER: u16 = 1;
const PAYLOAD_BASE: u16 = 2;
const PAYLOAD_OFFSET: u16 = 3;
const PAYLOAD_LENGTH: u16 = 4;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const COMPARE_REGISTER: u16 = 1;
const COMPARE_HOW: u16 = 2;
const COMPARE_DATA: u16 = 3;
const EQUAL: u32 = 0;
const NOT_ABOVE: u32 = 3;
const NOT_BELOW: u32 = 5;
const BITWISE_SOURCE: u16 = 1;
const BITWISE_DESTINATION: u16 = 2;
const BITWISE_LENGTH: u16 = 3;
const BITWISE_MASK: u16 = 4;
const BITWISE_XOR: u16 = 5;
const IMMEDIATE_REGISTER: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const DROP: u32 = 0;

#[cfg(test)]
mod tests {
    use super::super::netlink::attributes;
    use super::*;

    #[test]
    fn messages_and_attributes_read_back_as_they_were_written() {
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, (0, SUBSYSTEM), |_| {});
        batch.message(NEW_TABLE, CREATE, (FAMILY_INET, 0), |body| {
            body.text(TABLE_NAME, "abc");
            body.nested(CHAIN_HOOK, |hook| hook.number(HOOK_PRIORITY, RAW.cast_unsigned()));
        });
        let all: Vec<_> = messages(&batch.bytes).collect();
        assert_eq!((all[0].kind, all[1].kind, all[1].sequence), (16, 0x0a00, 2));
        assert_eq!(all[1].body[..4], [1, 0, 0, 0]);
        let read: Vec<_> = attributes(&all[1].body[4..]).collect();
        assert_eq!(read[0], (TABLE_NAME, &b"abc\0"[..]));
        assert_eq!(attributes(read[1].1).next(), Some((HOOK_PRIORITY, &[255, 255, 254, 212][..])));
    }
}
