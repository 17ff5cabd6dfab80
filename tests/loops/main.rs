//! The two loops against queues that refuse, stall and fail as told, in virtual time: what is planned leaves exactly
//! once whatever the link does, and every frame that arrives ends in one counter.

mod bench;
mod rx;
mod tx;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use swath::batch::{Batch, Family, LANES, NextHops, Source};
use swath::checkpoint::{self, Mode, Progress, Shape};
use swath::cli::build;
use swath::cli::{self, Request};
use swath::closing::{Closing, HalfOpen};
use swath::cookie::{CookieKey, SourcePorts};
use swath::dedup::Dedup;
use swath::event::{Invalid, Loss, Record, State};
use swath::gate::Gate;
use swath::generate::Generator;
use swath::link::{Accepted, FrameSpan, LinkError, Received, RxQueue, Stall, TxQueue};
use swath::neighbour::Neighbours;
use swath::order::{Order, Sample, Walk};
use swath::pace::{Pace, Rate};
use swath::path::{Path, Paths};
use swath::plan::Plan;
use swath::probe::{self, Judge, PROBES};
use swath::queue::Queue;
use swath::restraint::{Excludes, Gates, PrefixCap, Restraint, prefix};
use swath::rx::{Rx, RxParts};
use swath::stats::Stats;
use swath::target::{Port, Protocol, Target};
use swath::tx::{Step, Tx, TxParts};
use swath::wire;
use swath::wire::arp::Announcement;
use swath::wire::ethernet::Mac;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SOURCE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const GATEWAY_MAC: Mac = Mac([2, 0xff, 0, 0, 0, 1]);

fn plan(words: &str) -> Plan {
    let words = ["swath", "plan"].into_iter().chain(words.split(' ')).map(Into::into);
    let Ok(Request::Plan(args)) = cli::parse(words) else { panic!("arguments") };
    build::plan(&args).expect("a plan")
}

fn key() -> CookieKey {
    CookieKey::new(*b"a key for tests!")
}

fn ports() -> SourcePorts {
    SourcePorts::new(16_384, 16_384).expect("a power of two")
}
