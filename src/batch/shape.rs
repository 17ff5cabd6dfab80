//! [`Shape`]: what a template's frames have beyond constant bytes, and where. Templates of one shape are written together.

use super::{Carry, Field, Sum};

/// What changes from frame to frame, and what is summed. Two templates of one shape differ in constant bytes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) network: Network,
    /// Everything behind the network header.
    pub(super) parts: Vec<Part>,
    pub(super) sum: Option<InternetSum>,
    /// Whether there is a CRC-32C.
    pub(super) crc: bool,
}

/// Where the network header begins, and of which family it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    /// Offset in the frame.
    pub(super) at: usize,
    pub(super) is_v6: bool,
}

/// An Internet checksum behind the network header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InternetSum {
    /// Offset in the frame.
    pub(super) at: usize,
    /// Whether the destination is in it.
    pub(super) pseudo: bool,
    /// Whether a sum of 0 is written as 0xffff.
    pub(super) datagram: bool,
}

/// Bytes that every frame has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset from the start of the frame.
    pub(super) at: usize,
    pub(super) value: Value,
    /// Whether it begins in the middle of a 16-bit word of the checksum.
    pub(super) odd: bool,
}

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Source and destination port side by side.
    Ports,
    /// The source port and the low 16 bits of the sequence side by side.
    Key,
    /// A field alone.
    One(Carry),
}

impl Value {
    /// Bytes of it.
    pub(super) fn length(self) -> usize {
        match self {
            Value::Ports | Value::Key => 4,
            Value::One(carry) => carry.length(),
        }
    }
}

impl Shape {
    /// The shape of frames with these fields, whose offsets count from the transport header's.
    pub(super) fn new(network: Network, transport: usize, fields: &[Field], sum: Sum) -> Shape {
        let mut parts: Vec<Part> = Vec::new();
        for field in fields {
            let (at, odd) = (transport + field.at, !field.at.is_multiple_of(2));
            let part = Part { at, value: Value::One(field.carry), odd };
            let both = parts.last().and_then(|last| side_by_side(last, &part));
            match (parts.last_mut(), both) {
                (Some(last), Some(both)) => last.value = both,
                _ => parts.push(part),
            }
        }
        let sum_at = |at: usize, pseudo, datagram| Some(InternetSum { at: transport + at, pseudo, datagram });
        let (crc, sum) = match sum {
            Sum::Pseudo { at } => (false, sum_at(at, true, false)),
            Sum::Plain { at } => (false, sum_at(at, false, false)),
            Sum::Datagram => (false, sum_at(6, true, true)),
            Sum::Crc32c => (true, None),
            Sum::None => (false, None),
        };
        Shape { network, parts, sum, crc }
    }
}

/// What all shapes of a scan have in common: it is written for all lanes of a batch, whatever their shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Common {
    /// The network header, where it is the same.
    pub(super) network: Option<Network>,
    pub(super) parts: Vec<Part>,
    pub(super) sum: Option<InternetSum>,
    /// The parts of each shape that are left.
    pub(super) rest: Vec<Vec<Part>>,
}

impl Common {
    /// What is common to these.
    pub(super) fn of(shapes: &[Shape]) -> Common {
        let same_network = |network: &Network| shapes.iter().all(|shape| shape.network == *network);
        let network = shapes.first().map(|shape| shape.network).filter(same_network);
        let in_all = |part: &&Part| shapes.iter().all(|shape| shape.parts.contains(part));
        let first = shapes.first().map_or(&[][..], |shape| &shape.parts);
        let parts: Vec<Part> =
            if network.is_some() { first.iter().filter(in_all).copied().collect() } else { Vec::new() };
        let same_sum = |sum: &InternetSum| shapes.iter().all(|shape| shape.sum == Some(*sum));
        let sum = shapes.first().and_then(|shape| shape.sum).filter(same_sum).filter(|_| network.is_some());
        let left = |shape: &Shape| shape.parts.iter().filter(|part| !parts.contains(part)).copied().collect();
        let rest = shapes.iter().map(left).collect();
        Common { network, parts, sum, rest }
    }
}

/// What two fields that stand side by side are as one, where there is such a value.
fn side_by_side(first: &Part, second: &Part) -> Option<Value> {
    if first.value != Value::One(Carry::SourcePort) || first.at + 2 != second.at {
        return None;
    }
    match second.value {
        Value::One(Carry::DestinationPort) => Some(Value::Ports),
        Value::One(Carry::Low) => Some(Value::Key),
        _ => None,
    }
}
