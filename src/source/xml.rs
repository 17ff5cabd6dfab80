//! XML in nmap's vocabulary, as nmap and masscan write it: every `<port>` is a result as soon as it is closed, a host
//! that answered ICMP, ARP or neighbour discovery is one when it is closed.
//!
//! Constant memory: event by event; an element or text longer than [`EVENT_BYTES`] is an error. Entities other than the
//! five of XML are not expanded, DTDs are not read.

use std::io::{self, BufRead, Read};
use std::net::IpAddr;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::csv::unescape_bytes;
use super::masscan::{Verdict, protocol};
use super::row::unknown;
use super::text::{parse_mac, record};
use super::{BATCH, Facts, Input, Source, SourceError, SourceKind};
use crate::event::{Attachment, Observations, Reason, Record, State, Untrusted};
use crate::target::{Port, Protocol};

/// The row of the registry.
pub(crate) const MASSCAN: SourceKind = SourceKind {
    name: "masscan-xml",
    about: "masscan's XML (--compat masscan -oX)",
    sniff: |head| holds(head, b"<nmaprun ") && holds(head, b"scanner=\"masscan\""),
    open: |input| Ok(Box::new(Xml::new(input, true))),
};

/// The row of the registry.
pub(crate) const NMAP: SourceKind = SourceKind {
    name: "nmap-xml",
    about: "nmap's XML (-oX)",
    sniff: |head| holds(head, b"<nmaprun ") && !holds(head, b"scanner=\"masscan\""),
    open: |input| Ok(Box::new(Xml::new(input, false))),
};

fn holds(head: &[u8], text: &[u8]) -> bool {
    head.windows(text.len()).any(|bytes| bytes == text)
}

/// The longest element or text.
const EVENT_BYTES: u64 = 4 << 20;

struct Xml {
    reader: Reader<Bounded>,
    is_masscan: bool,
    buffer: Vec<u8>,
    facts: Facts,
    depth: usize,
    rooted: bool,
    host: Host,
    port: Option<OpenPort>,
    done: bool,
}

/// A host that is open.
#[derive(Default)]
struct Host {
    address: Option<IpAddr>,
    mac: Option<[u8; 6]>,
    seconds: u64,
    /// Reason and time to live of its status, if it is up.
    up: Option<(Reason, u8)>,
}

/// A port that is open.
struct OpenPort {
    protocol: String,
    number: u16,
    state: Option<StateOf>,
    service: Option<String>,
    said: Vec<(Box<str>, Vec<u8>)>,
}

/// The `<state>` of a port.
struct StateOf {
    state: String,
    reason: String,
    ttl: u8,
    responder: Option<IpAddr>,
}

impl Xml {
    fn new(input: Input, is_masscan: bool) -> Xml {
        let mut reader = Reader::from_reader(Bounded { input, event: 0 });
        reader.config_mut().check_end_names = true;
        Xml {
            reader,
            is_masscan,
            buffer: Vec::new(),
            facts: Facts::default(),
            depth: 0,
            rooted: false,
            host: Host::default(),
            port: None,
            done: false,
        }
    }

    fn fault(&self, cause: impl Into<String>) -> SourceError {
        let place = format!("byte {}", self.reader.buffer_position());
        self.reader.get_ref().input.fault(Some(place), cause)
    }

    /// Reads one event; `false` at the end.
    fn step(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        self.buffer.clear();
        let mut buffer = std::mem::take(&mut self.buffer);
        self.reader.get_mut().event = 0;
        let event = self.reader.read_event_into(&mut buffer).map(Event::into_owned);
        self.buffer = buffer;
        let result = match event {
            Ok(Event::Start(element)) => {
                self.depth += 1;
                self.rooted = true;
                self.open(&element)
            }
            Ok(Event::Empty(element)) => {
                let opened = self.open(&element);
                opened.and_then(|()| self.close(element.name().as_ref(), batch))
            }
            Ok(Event::End(element)) => {
                self.depth = self.depth.saturating_sub(1);
                self.close(element.name().as_ref(), batch)
            }
            Ok(Event::Eof) => return Ok(false),
            Ok(_) => Ok(()),
            // A file that ends inside of an element.
            Err(quick_xml::Error::Syntax(_)) if self.at_end() => {
                self.depth = self.depth.max(1);
                return Ok(false);
            }
            Err(error) => Err(error.to_string()),
        };
        result.map(|()| true).map_err(|cause| self.fault(cause))
    }

    fn at_end(&mut self) -> bool {
        self.reader.get_mut().input.fill_buf().is_ok_and(<[u8]>::is_empty)
    }

    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        match element.name().as_ref() {
            b"nmaprun" => self.facts.started_s = number(element, "start")?,
            b"finished" => self.facts.finished_s = number(element, "time")?,
            b"host" => {
                let ended = number(element, "endtime")?.or(number(element, "starttime")?);
                self.host = Host { seconds: ended.unwrap_or(0), ..Host::default() };
            }
            b"status" if attribute(element, "state")?.as_deref() == Some("up") => {
                let reason = attribute(element, "reason")?.unwrap_or_default();
                let ttl = number(element, "reason_ttl")?.unwrap_or(0);
                self.host.up = Some((Reason::from_name(&reason).unwrap_or(Reason(0)), ttl));
            }
            b"address" => self.address(element)?,
            b"port" => {
                self.port = Some(OpenPort {
                    protocol: attribute(element, "protocol")?.ok_or("a port has no protocol")?,
                    number: number(element, "portid")?.ok_or("a port has no portid")?,
                    state: None,
                    service: None,
                    said: Vec::new(),
                });
            }
            b"state" | b"service" | b"script" => self.port_detail(element)?,
            _ => {}
        }
        Ok(())
    }

    fn address(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let text = attribute(element, "addr")?.ok_or("an address has no addr")?;
        if attribute(element, "addrtype")?.as_deref() == Some("mac") {
            self.host.mac = parse_mac(&text.to_lowercase());
        } else if self.host.address.is_none() {
            self.host.address = Some(text.parse().map_err(|_| unknown("addr", &text))?);
        }
        Ok(())
    }

    fn port_detail(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        let Some(port) = &mut self.port else { return Ok(()) };
        let said = |text: &str| unescape_bytes(text).unwrap_or_else(|| text.as_bytes().to_vec());
        match element.name().as_ref() {
            b"state" => {
                let responder = attribute(element, "reason_ip")?.and_then(|text| text.parse().ok());
                port.state = Some(StateOf {
                    state: attribute(element, "state")?.ok_or("a state has no state")?,
                    reason: attribute(element, "reason")?.unwrap_or_default(),
                    ttl: number(element, "reason_ttl")?.unwrap_or(0),
                    responder,
                });
            }
            b"service" => {
                let name = attribute(element, "name")?.unwrap_or_default();
                if let Some(banner) = attribute(element, "banner")? {
                    port.said.push((name.as_str().into(), said(&banner)));
                } else {
                    let parts = ["product", "version", "extrainfo"].map(|name| attribute(element, name));
                    let [product, version, extra] = parts;
                    let text: Vec<String> = [product?, version?, extra?].into_iter().flatten().collect();
                    if !text.is_empty() {
                        port.said.push((name.as_str().into(), text.join(" ").into_bytes()));
                    }
                }
                port.service = Some(name);
            }
            _ => {
                let id = attribute(element, "id")?.unwrap_or_default();
                if let (Some(key), Some(output)) = (id.strip_prefix("swath-"), attribute(element, "output")?)
                {
                    port.said.push((key.into(), said(&output)));
                }
            }
        }
        Ok(())
    }

    fn close(&mut self, name: &[u8], batch: &mut Observations) -> Result<(), String> {
        match name {
            b"port" => {
                let (Some(port), Some(address)) = (self.port.take(), self.host.address) else {
                    return Ok(());
                };
                // nmap's summary of ports has ports without a state of their own.
                let Some(state) = &port.state else { return Ok(()) };
                let record = if self.is_masscan {
                    self.of_masscan(&port, state, address)?
                } else {
                    self.of_nmap(&port, state, address)?
                };
                // masscan's banners are results of their own, without a verdict.
                if !(self.is_masscan && state.reason == "response") {
                    batch.records.push(record);
                }
                for (key, bytes) in port.said {
                    batch.attach(Attachment { record, key, bytes: Untrusted(bytes) });
                }
            }
            b"host" => {
                let host = std::mem::take(&mut self.host);
                batch.records.extend(host.verdict());
            }
            _ => {}
        }
        Ok(())
    }

    fn of_masscan(&self, port: &OpenPort, state: &StateOf, address: IpAddr) -> Result<Record, String> {
        let told = Verdict {
            address,
            seconds: self.host.seconds,
            port: port.number,
            protocol: &port.protocol,
            status: &state.state,
            reason: Some(&state.reason).filter(|reason| *reason != "response").map(String::as_str),
            ttl: state.ttl,
        };
        told.record()
    }

    fn of_nmap(&self, port: &OpenPort, state: &StateOf, address: IpAddr) -> Result<Record, String> {
        let protocol = protocol(&port.protocol, address)?;
        let known = State::from_name(&state.state).ok_or_else(|| unknown("state", &state.state))?;
        let reason = Reason::from_name(&state.reason).unwrap_or(Reason(0));
        let mut record = record(address, Port { protocol, number: port.number }, known, reason);
        if let Some(responder) = state.responder {
            record = Record::new(record.target(), responder.to_canonical(), known, reason);
        }
        record.time_ns = self.host.seconds.saturating_mul(1_000_000_000);
        record.ttl = state.ttl;
        Ok(record)
    }
}

impl Host {
    /// What its status says, if a reply that is about no port said it.
    fn verdict(&self) -> Option<Record> {
        let (reason, ttl) = self.up?;
        let address = self.address?;
        let (protocol, number) = match reason {
            Reason::ECHO_REPLY if address.is_ipv4() => (Protocol::ICMP, 8),
            Reason::ECHO_REPLY => (Protocol::ICMPV6, 128),
            Reason::TIMESTAMP_REPLY => (Protocol::ICMP, 13),
            Reason::ADDRESSMASK_REPLY => (Protocol::ICMP, 17),
            Reason::ARP_RESPONSE => (Protocol::ARP, 0),
            Reason::ND_RESPONSE => (Protocol::ND, 0),
            _ => return None,
        };
        let mut record = record(address, Port { protocol, number }, State::Up, reason);
        record.time_ns = self.seconds.saturating_mul(1_000_000_000);
        record.ttl = ttl;
        if let (Some(mac), Protocol::ARP | Protocol::ND) = (self.mac, protocol) {
            record.set_mac(mac);
        }
        Some(record)
    }
}

impl Source for Xml {
    fn read(&mut self, batch: &mut Observations) -> Result<bool, SourceError> {
        batch.clear();
        while batch.len() < BATCH && !self.done {
            self.done = !self.step(batch)?;
        }
        if self.done && batch.is_empty() && !self.rooted {
            return Err(self.fault("it holds no element, so it is no XML of nmap or masscan"));
        }
        Ok(!batch.is_empty())
    }

    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn remarks(&self) -> Vec<String> {
        let input = &self.reader.get_ref().input;
        let cut = 0 < self.depth || input.is_cut();
        let remark = || format!("{} is cut off: it ends before its document does", input.name());
        if self.done && cut { vec![remark()] } else { Vec::new() }
    }
}

/// The value of an attribute, entities replaced.
fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        if attribute.key.as_ref() == name.as_bytes() {
            let value = attribute.unescape_value().map_err(|error| error.to_string())?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// The value of an attribute that is a number.
fn number<T: std::str::FromStr>(element: &BytesStart<'_>, name: &str) -> Result<Option<T>, String> {
    let text = attribute(element, name)?;
    text.map(|text| text.trim().parse().map_err(|_| unknown(name, &text))).transpose()
}

/// An input of which one event may take so much and no more.
struct Bounded {
    input: Input,
    event: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for Bounded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if EVENT_BYTES < self.event {
            return Err(io::Error::other(format!("an element is longer than {EVENT_BYTES} bytes")));
        }
        self.input.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.event += count as u64;
        self.input.consume(count);
    }
}
