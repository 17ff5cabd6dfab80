//! The payloads of one scan: the library's, and in their place those of the user's files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::answer::{Finding, agrees, find};
use super::{FACTOR_LIMIT, MOST_PER_PORT, Request, Service, services};
use crate::batch::{Carry, Secrets};

/// What one port is asked, and how an answer is judged.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Its name: the library's, or what the user's file says.
    pub name: Cow<'static, str>,
    /// What is sent.
    pub request: Request,
    /// Whether the answer comes from a port of the server's own choice.
    pub any_port: bool,
    check: Check,
}

#[derive(Debug, Clone)]
enum Check {
    /// A check of the library.
    Known(fn(&[u8], &Secrets) -> Finding),
    /// What a file expects.
    Told(Expectation),
}

/// What a user's file says of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// How every answer starts.
    pub prefix: Vec<u8>,
    /// What comes back of the cookie, and where; without a place, anywhere.
    pub echo: Option<(Carry, Option<usize>)>,
}

impl Payload {
    /// A payload of a user's file.
    pub fn told(name: String, request: Request, any_port: bool, expectation: Expectation) -> Payload {
        Payload { name: Cow::Owned(name), request, any_port, check: Check::Told(expectation) }
    }

    /// Judges an answer to this payload.
    pub fn judge(&self, answer: &[u8], secrets: &Secrets) -> Finding {
        match &self.check {
            Check::Known(check) => check(answer, secrets),
            Check::Told(expectation) => expectation.judge(answer, secrets),
        }
    }
}

impl From<&Service> for Payload {
    fn from(service: &Service) -> Payload {
        Payload {
            name: Cow::Borrowed(service.name),
            request: Request::of(service.request),
            any_port: service.any_port,
            check: Check::Known(service.check),
        }
    }
}

impl Expectation {
    fn judge(&self, answer: &[u8], secrets: &Secrets) -> Finding {
        if !agrees(answer, 0, &self.prefix) {
            return Finding::Foreign;
        }
        if answer.len() < self.prefix.len() {
            return Finding::Truncated;
        }
        let Some((carry, place)) = self.echo else { return Finding::Proved(0) };
        let written = carry.value(secrets, 0, 0).to_be_bytes();
        let written = &written[8 - carry.length()..];
        let found = match place {
            Some(at) if answer.len() < at + carry.length() => return Finding::Truncated,
            Some(at) => agrees(answer, at, written),
            None => find(answer, written).is_some(),
        };
        if found { Finding::Proved(carry.bits()) } else { Finding::OtherCookie }
    }
}

/// What each port is asked. A port without an entry gets an empty datagram.
#[derive(Debug, Clone)]
pub struct Payloads {
    ports: BTreeMap<u16, Vec<Arc<Payload>>>,
}

impl Payloads {
    /// The library, with its amplifiers or without them.
    pub fn library(amplifiers: bool) -> Payloads {
        let mut ports: BTreeMap<u16, Vec<Arc<Payload>>> = BTreeMap::new();
        for service in services().filter(|service| amplifiers || service.factor <= FACTOR_LIMIT) {
            let payload = Arc::new(Payload::from(service));
            for port in service.ports {
                ports.entry(*port).or_default().push(Arc::clone(&payload));
            }
        }
        Payloads { ports }
    }

    /// Puts payloads of a file in the place of everything that their ports were asked before; those of one file for one
    /// port stand beside each other, in the order of the file.
    ///
    /// # Errors
    /// The port that has more than [`MOST_PER_PORT`] of them.
    pub fn replace(&mut self, payloads: impl IntoIterator<Item = (Vec<u16>, Payload)>) -> Result<(), u16> {
        let mut told: BTreeMap<u16, Vec<Arc<Payload>>> = BTreeMap::new();
        for (ports, payload) in payloads {
            let payload = Arc::new(payload);
            for port in ports {
                let entry = told.entry(port).or_default();
                if entry.len() == MOST_PER_PORT {
                    return Err(port);
                }
                entry.push(Arc::clone(&payload));
            }
        }
        self.ports.extend(told);
        Ok(())
    }

    /// Keeps the first payloads of each port, at least one.
    pub fn keep_first(&mut self, most: usize) {
        self.ports.values_mut().for_each(|payloads| payloads.truncate(most.max(1)));
    }

    /// What a port is asked, first things first; never nothing.
    pub fn of(&self, port: u16) -> &[Arc<Payload>] {
        self.ports.get(&port).map_or(std::slice::from_ref(&*EMPTY), Vec::as_slice)
    }

    /// The ports that have payloads, with them.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[Arc<Payload>])> {
        self.ports.iter().map(|(port, payloads)| (*port, payloads.as_slice()))
    }
}

/// An empty datagram; whatever comes back is an answer.
static EMPTY: LazyLock<Arc<Payload>> = LazyLock::new(|| {
    let check = Check::Told(Expectation::default());
    Arc::new(Payload { name: Cow::Borrowed("empty"), request: Request::default(), any_port: false, check })
});
