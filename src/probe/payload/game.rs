//! Games and what their players speak through.

use super::Service;
use super::answer::{Finding, Shape, agrees, be16, echoed, labelled, unannounced};
use super::request::Part::{Carry as C, Raw, Zeros};
use crate::batch::Carry;

/// What every datagram of the id Software and Valve engines outside of a connection starts with.
const OUT_OF_BAND: &[u8] = b"\xff\xff\xff\xff";

pub(super) const SERVICES: &[Service] = &[
    Service {
        name: "source-engine",
        about: "game server (Source, Steam): what is played",
        ports: &[27015, 27016, 27017, 2303, 7777, 7778, 28015],
        request: &[Raw(OUT_OF_BAND), Raw(b"TSource Engine Query\0")],
        answer: &[Raw(OUT_OF_BAND), Raw(b"A\x01\x02\x03\x04")],
        // A challenge, or the information of Source or of its predecessor.
        check: |answer, _| match answer {
            _ if !agrees(answer, 0, OUT_OF_BAND) => Finding::Foreign,
            [_, _, _, _, b'A', _, _, _, _] => Finding::Proved(0),
            [_, _, _, _, b'I' | b'm', .., _, _] if answer.len() > 20 => Finding::Proved(0),
            [_, _, _, _, kind, ..] if !matches!(kind, b'A' | b'I' | b'm') => Finding::Foreign,
            _ => Finding::Truncated,
        },
        bits: 0,
        factor: 6.0,
        worst: 5.5,
        any_port: false,
        source: "Valve Developer Community, Server queries, A2S_INFO; US-CERT TA14-017A",
    },
    Service {
        name: "quake3",
        about: "game server (Quake III): what is played",
        ports: &[27960, 27961, 28960, 30720],
        request: &[Raw(OUT_OF_BAND), Raw(b"getinfo "), C(Carry::Text), Raw(b"\0")],
        answer: &[
            Raw(OUT_OF_BAND),
            Raw(b"infoResponse\n\\challenge\\"),
            C(Carry::Text),
            Raw(b"\\hostname\\test\\protocol\\68\\clients\\0"),
        ],
        check: |answer, secrets| {
            if !agrees(answer, 0, b"\xff\xff\xff\xffinfoResponse\n") {
                return Finding::Foreign;
            }
            if super::answer::find(answer, b"\\hostname\\").is_none() {
                return Finding::Truncated;
            }
            labelled(answer, b"\\challenge\\", Carry::Text, secrets)
        },
        bits: 32,
        factor: 20.0,
        worst: 63.9,
        any_port: false,
        source: "ioquake3 README and sv_main, infoResponse; US-CERT TA14-017A",
    },
    Service {
        name: "minecraft-bedrock",
        about: "game server (Minecraft Bedrock, RakNet): ping",
        ports: &[19132, 19133],
        request: &[Raw(b"\x01"), C(Carry::Wide), Raw(RAKNET), Raw(b"swath\0\0\0")],
        answer: &[
            Raw(b"\x1c"),
            C(Carry::Wide),
            Raw(b"\0\0\0\0\0\0\0\x01"),
            Raw(RAKNET),
            Raw(b"\0\x10MCPE;test;1;1;0;"),
        ],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"\x1c"), (17, RAKNET)];
            let announced = |answer: &[u8]| 35 + be16(answer, 33);
            Shape { magic, echo: Some((1, Carry::Wide)), least: 35, announced }.judge(answer, secrets)
        },
        bits: 48,
        factor: 6.0,
        worst: 6.0,
        any_port: false,
        source: "RakNet, unconnected ping and pong (wiki.vg, Raknet Protocol)",
    },
    Service {
        name: "minecraft-query",
        about: "game server (Minecraft Java, query): a token",
        ports: &[25565],
        request: &[Raw(b"\xfe\xfd\x09\0\0"), C(Carry::Low)],
        answer: &[Raw(b"\x09\0\0"), C(Carry::Low), Raw(b"9513307\0")],
        check: |answer, secrets| {
            if answer.first().is_some_and(|kind| *kind != 9) {
                return Finding::Foreign;
            }
            if answer.len() < 6 || answer.last() != Some(&0) {
                return Finding::Truncated;
            }
            // Servers may ignore the upper half of each byte of the number.
            let number = be16(answer, 3);
            let ours = usize::from(secrets.sequence.to_be_bytes()[2]) << 8
                | usize::from(secrets.sequence.to_be_bytes()[3]);
            match () {
                () if number == ours => Finding::Proved(16),
                () if number == ours & 0x0f0f => Finding::Proved(8),
                () => Finding::OtherCookie,
            }
        },
        bits: 16,
        factor: 2.5,
        worst: 40.0,
        any_port: false,
        source: "GameSpy 4 query as in Minecraft (wiki.vg, Query)",
    },
    Service {
        name: "teamspeak3",
        about: "voice server (TeamSpeak 3): first step",
        ports: &[9987],
        request: &[Raw(b"TS3INIT1\0\x65\0\0\x88\x06\x3b\xec\xe9\0\0\0\0\0"), C(Carry::Sequence), Zeros(8)],
        // The answer has our four bytes in the reverse order, behind sixteen of its own.
        answer: &[Raw(b"TS3INIT1\0\x65\x88\x01"), Raw(b"0123456789abcdef"), C(Carry::Reversed)],
        check: |answer, secrets| {
            let magic: &[(usize, &[u8])] = &[(0, b"TS3INIT1"), (10, b"\x88\x01")];
            let echo = Some((28, Carry::Reversed));
            Shape { magic, echo, least: 32, announced: unannounced }.judge(answer, secrets)
        },
        bits: 32,
        factor: 1.0,
        worst: 1.0,
        any_port: false,
        source: "ReSpeak, TS3PROTOCOL.md, section 2.4",
    },
    Service {
        name: "mumble",
        about: "voice server (Mumble): who is there",
        ports: &[64738],
        request: &[Raw(b"\0\0\0\0"), C(Carry::Wide)],
        answer: &[Raw(b"\0\x01\x03\x04"), C(Carry::Wide), Raw(b"\0\0\0\0\0\0\0\x64\0\x01\x1b\x90")],
        check: |answer, secrets| match answer.len() {
            24 => echoed(answer, 4, Carry::Wide, secrets),
            length if length < 24 && agrees(answer, 0, b"\0") => Finding::Truncated,
            _ => Finding::Foreign,
        },
        bits: 48,
        factor: 2.0,
        worst: 2.0,
        any_port: false,
        source: "Mumble protocol documentation, UDP ping",
    },
];

/// What marks RakNet's messages outside of a connection.
const RAKNET: &[u8] = b"\0\xff\xff\0\xfe\xfe\xfe\xfe\xfd\xfd\xfd\xfd\x12\x34\x56\x78";
