//! Every request of the library: its golden answer, every prefix of it, and the answer to somebody else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::batch::Carry;

const OURS: Secrets = Secrets { source_port: 0x4123, sequence: 0x89ab_cdef, identification: 0x5a3c };
const THEIRS: Secrets = Secrets { source_port: 0x4fff, sequence: 0x1234_5678, identification: 0x77e1 };
const SOURCE: [u8; 4] = [192, 0, 2, 1];

/// Answers whose end nobody can know: any part of them is an answer.
const ENDLESS: &[&str] = &["daytime", "qotd", "chargen"];
/// Answers that grow in steps: a shorter one is whole, too, from this length on.
const STEPS: &[(&str, usize)] = &[("coap", 4), ("afs", 29), ("quake3", 34)];

fn golden(service: &Service, secrets: &Secrets) -> Vec<u8> {
    Request::of(service.answer).written(IpAddr::from(SOURCE), secrets)
}

#[test]
fn the_library_has_at_least_40_services_and_says_where_each_comes_from() {
    let names: BTreeSet<&str> = services().map(|service| service.name).collect();
    assert_eq!(names.len(), services().count(), "names are unique");
    assert!(55 <= names.len(), "{}", names.len());
    for service in services() {
        assert!(!service.ports.is_empty() && !service.about.is_empty() && !service.source.is_empty());
        assert!(service.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')));
        let length = Request::of(service.request).len();
        assert!((1..=1200).contains(&length), "{}: {length} bytes", service.name);
    }
    for (port, payloads) in Payloads::library(true).iter() {
        assert!(payloads.len() <= MOST_PER_PORT, "port {port}");
    }
}

#[test]
fn every_golden_answer_proves_as_many_bits_as_the_table_says() {
    for service in services() {
        let answer = golden(service, &OURS);
        assert_eq!((service.check)(&answer, &OURS), Finding::Proved(service.bits), "{}", service.name);
    }
}

#[test]
fn no_answer_to_another_probe_proves_anything() {
    for service in services().filter(|service| 0 < service.bits) {
        let judged = (service.check)(&golden(service, &THEIRS), &OURS);
        assert_eq!(judged, Finding::OtherCookie, "{}", service.name);
    }
}

#[test]
fn no_answer_that_was_cut_short_is_taken_for_a_whole_one() {
    for service in services().filter(|service| !ENDLESS.contains(&service.name)) {
        let answer = golden(service, &OURS);
        let whole = STEPS.iter().find(|(name, _)| *name == service.name).map_or(answer.len(), |step| step.1);
        for length in 1..whole {
            let judged = (service.check)(&answer[..length], &OURS);
            assert_eq!(judged, Finding::Truncated, "{}: {length} of {} bytes", service.name, answer.len());
        }
    }
}

#[test]
fn what_is_no_answer_of_the_protocol_is_foreign_and_nothing_panics() {
    let noise: Vec<Vec<u8>> =
        vec![b"220 ready\r\n".to_vec(), vec![0xff; 3], vec![0x5a; 1400], vec![0x80; 17]];
    for service in services() {
        for bytes in &noise {
            let _ = (service.check)(bytes, &OURS);
        }
        let _ = (service.check)(&[], &OURS);
        // Every bit of a golden answer flipped, one after the other: no panic.
        let answer = golden(service, &OURS);
        for bit in 0..answer.len() * 8 {
            let mut changed = answer.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let judged = (service.check)(&changed, &OURS);
            assert!(!matches!(judged, Finding::Proved(bits) if service.bits < bits), "{}", service.name);
        }
        let greeting = (service.check)(b"220 ready\r\n", &OURS);
        assert!(
            ENDLESS.contains(&service.name) || matches!(greeting, Finding::Foreign | Finding::Truncated),
            "{}: {greeting:?}",
            service.name
        );
    }
}

/// A bit of the cookie that is wrong makes the answer another's, wherever the answer carries it.
#[test]
fn every_bit_of_an_echoed_cookie_counts() {
    for service in services().filter(|service| 0 < service.bits && service.name != "minecraft-query") {
        let answer = Request::of(service.answer);
        let first = answer.fields()[0];
        for bit in 0..first.carry.length() * 8 {
            let mut bytes = golden(service, &OURS);
            bytes[first.at + bit / 8] ^= 1 << (bit % 8);
            let judged = (service.check)(&bytes, &OURS);
            assert!(!matches!(judged, Finding::Proved(1..)), "{}: bit {bit}", service.name);
        }
    }
}

#[test]
fn requests_carry_the_cookie_wherever_the_answer_brings_one_back() {
    for service in services() {
        let request = Request::of(service.request);
        let carried: u32 = request.fields().iter().map(|field| field.carry.bits()).max().unwrap_or(0);
        assert!(service.bits <= carried, "{}", service.name);
        let lengths = [OURS, THEIRS].map(|secrets| request.written(SOURCE.into(), &secrets).len());
        assert_eq!(lengths, [request.len(); 2]);
    }
}

#[test]
fn amplifiers_are_sent_only_when_asked_for() {
    let (quiet, loud) = (Payloads::library(false), Payloads::library(true));
    let names = |payloads: &Payloads, port| {
        payloads.of(port).iter().map(|payload| payload.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&quiet, 19), ["empty"]);
    assert_eq!(names(&loud, 19), ["chargen"]);
    assert_eq!(names(&quiet, 1434), ["mssql-instance"]);
    assert_eq!(names(&loud, 1434), ["mssql-instance", "mssql-all"]);
    assert_eq!(names(&quiet, 161), ["snmp3", "snmp2c", "snmp1"]);
    for service in services() {
        let answer = golden(service, &OURS).len() as f32 / Request::of(service.request).len() as f32;
        // The golden answer of an amplifier is a short one.
        assert!(answer <= service.factor.max(1.0) || !service.is_default(), "{}: {answer}", service.name);
    }
}

#[test]
fn a_file_takes_the_place_of_the_library_on_its_ports_only() {
    let mut payloads = Payloads::library(false);
    let told = |name: &str| {
        let request = Request::of(&[Part::Carry(Carry::Low)]);
        Payload::told(name.into(), request, false, library::Expectation::default())
    };
    payloads.replace([(vec![53, 9000], told("one")), (vec![53], told("two"))]).expect("fits");
    assert_eq!(payloads.of(53).iter().map(|payload| &*payload.name).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(payloads.of(9000).len(), 1);
    assert_eq!(payloads.of(123)[0].name, "ntp");
    payloads.keep_first(1);
    assert_eq!((payloads.of(53).len(), payloads.of(161).len()), (1, 1));
    let many = (0..=MOST_PER_PORT).map(|number| (vec![7], told(&number.to_string())));
    assert_eq!(payloads.replace(many), Err(7));
}

/// The table of docs/udp.md, as the library has it.
fn page() -> String {
    let mut text = String::new();
    for (family, services) in FAMILIES {
        text.push_str(&format!("\n### {family}\n\n"));
        text.push_str(
            "| name | asks | ports | bytes | cookie bits | answer at most | worst known | source |\n",
        );
        text.push_str("|---|---|---|---:|---:|---:|---:|---|\n");
        for service in *services {
            let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
            let off = if service.is_default() { "" } else { " (off)" };
            text.push_str(&format!(
                "| `{}`{off} | {} | {} | {} | {} | {} x | {} x | {} |\n",
                service.name,
                service.about,
                ports.join(", "),
                Request::of(service.request).len(),
                service.bits,
                service.factor,
                service.worst,
                service.source
            ));
        }
    }
    text
}

#[test]
fn the_page_about_udp_has_the_tables_of_the_library() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/udp.md")).expect("the page");
    let (_, rest) = text.split_once("<!-- library -->\n").expect("the place for the tables");
    let (tables, _) = rest.split_once("\n<!-- end -->").expect("its end");
    let written = std::env::temp_dir().join("swath-udp-tables.md");
    if tables.trim() != page().trim() {
        std::fs::write(&written, page()).expect("written");
        panic!("docs/udp.md differs; what it should say is in {}", written.display());
    }
}
