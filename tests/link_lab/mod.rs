//! Two namespaces with a veth pair and no way out, and a sink at the far end that counts every frame by its sequence
//! number, in the driver. For the tests and the bench of links.

pub mod reflector;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use swath::batch::{Batch, NextHops, Template};
use swath::gate::Gate;
use swath::host::{Host, InterfaceKind};
use swath::link::{
    BACKENDS, Filter, Framing, Link, LinkError, LinkInterface, LinkSpec, Queues, Receive, TxQueue,
};
use swath::sys::ebpf::Register::{R0, R1, R2, R3, R6, R7};
use swath::sys::ebpf::{Assembler, ContextField, MapSlot, Operation, Program, Size, Test};
use swath::sys::ebpf_kernel::{Attachment, LoadedProgram, ProgramKind, SharedWords, XdpMode};
use swath::sys::namespace;
use swath::wire::ethernet::{self, Mac};

pub const NEAR: &str = "192.0.2.1";
pub const FAR: &str = "192.0.2.2";
pub const PORTS: (u16, u16) = (40_000, 40_255);

/// Two namespaces, `near` with the interface v0 and `far` with v1; gone when dropped.
pub struct Lab {
    pub near: String,
    pub far: String,
}

impl Lab {
    /// None, and a word about it, where namespaces cannot be made.
    pub fn new() -> Option<Lab> {
        Lab::with_queues(1)
    }

    /// The same with several queues at both ends.
    pub fn with_queues(queues: u32) -> Option<Lab> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let required = std::env::var_os("SWATH_NETNS").is_some_and(|value| value == "required");
        let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if !root {
            assert!(!required, "SWATH_NETNS=required, but namespaces need root");
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let name = format!("swath-link-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Lab { near: format!("{name}-near"), far: format!("{name}-far") };
        for namespace in [&lab.near, &lab.far] {
            run(&["ip", "netns", "add", namespace]);
            run(&["ip", "-n", namespace, "link", "set", "lo", "up"]);
        }
        let (near, far) = (&lab.near, &lab.far);
        let queues = format!("numtxqueues {queues} numrxqueues {queues}");
        lab.ip(near, &format!("link add v0 {queues} type veth peer name v1 {queues} netns {far}"));
        for (namespace, interface, v4, v6) in
            [(near, "v0", NEAR, "2001:db8::1/64"), (far, "v1", FAR, "2001:db8::2/64")]
        {
            run(&["ip", "-n", namespace, "addr", "add", &format!("{v4}/24"), "brd", "+", "dev", interface]);
            run(&["ip", "-n", namespace, "addr", "add", v6, "dev", interface, "nodad"]);
            run(&["ip", "-n", namespace, "link", "set", interface, "up"]);
        }
        Some(lab)
    }

    /// The same, and the far end takes redirected frames.
    pub fn with_redirects() -> Option<Lab> {
        let lab = Lab::new()?;
        lab.receive_in_batches();
        Some(lab)
    }

    /// GRO at the far end: a veth takes redirected frames when its other end polls.
    pub fn receive_in_batches(&self) {
        run(&["ip", "netns", "exec", &self.far, "ethtool", "-K", "v1", "gro", "on"]);
    }

    pub fn near<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.near, work)
    }

    pub fn far<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.far, work)
    }

    pub fn ip(&self, namespace: &str, arguments: &str) {
        let mut command = vec!["ip", "-n", namespace];
        command.extend(arguments.split(' '));
        run(&command);
    }

    pub fn far_mac(&self) -> Mac {
        self.far(|| Mac(Host::read().expect("facts").interface("v1").expect("v1").mac))
    }

    /// The link `name` on v0, with templates from the near address.
    pub fn open_near(&self, name: &str, gate: Gate) -> Result<Link, LinkError> {
        let spec = self.near_spec(gate);
        self.near(|| (backend(name).open)(&spec))
    }

    /// Runs `swath` at the near end; it must do all it was asked for. Returns what it said.
    pub fn swath(&self, arguments: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.near, env!("CARGO_BIN_EXE_swath")]).args(arguments.split(' '));
        let output = command.output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {said}");
        said
    }

    /// What a link on v0 is opened with.
    pub fn near_spec(&self, gate: Gate) -> LinkSpec {
        let far = self.far_mac();
        self.near(|| spec("v0", NEAR, "2001:db8::1", gate, far))
    }

    /// Packet sockets on v1, which hear what is sent to the far address.
    pub fn open_far(&self) -> Link {
        self.far(|| {
            let spec = spec("v1", FAR, "2001:db8::2", Gate::open(), Mac::default());
            (backend("af_packet").open)(&spec).unwrap_or_else(|error| panic!("{error}"))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

pub fn run(command: &[&str]) -> Output {
    let output = Command::new(command[0]).args(&command[1..]).output().expect("the command exists");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs `work` on a thread of its own inside of a namespace. What it opens stays there.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            namespace::enter_network(&file).expect("root may enter");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub fn backend(name: &str) -> &'static swath::link::Backend {
    BACKENDS.iter().find(|backend| backend.name == name).expect("a row")
}

/// What a link on an interface of the namespace the thread is in is opened with.
pub fn spec(name: &str, v4: &str, v6: &str, gate: Gate, next_hop: Mac) -> LinkSpec {
    let host = Host::read().expect("facts");
    let interface = host.interface(name).expect("the lab made it");
    let mac = Mac(interface.mac);
    let hops = NextHops::new(4);
    hops.assign(0, next_hop);
    LinkSpec {
        argument: None,
        interface: Some(LinkInterface {
            name: name.to_owned(),
            index: interface.index,
            mac,
            framing: match interface.kind {
                InterfaceKind::Ethernet => Framing::Ethernet,
                InterfaceKind::Loopback => Framing::Loopback,
                _ => Framing::Bare,
            },
        }),
        templates: Arc::from([
            syn_v4(v4, mac, MSS),
            syn_v6(v6, mac, MSS),
            syn_v4(v4, mac, LINUX),
            syn_v4(v4, mac, &[]),
            syn_v4(v4, mac, WINDOWS),
        ]),
        hops,
        gate: Arc::new(gate),
        filter: Filter {
            addresses: vec![v4.parse().expect("address"), v6.parse().expect("address")],
            port_first: PORTS.0,
            port_last: PORTS.1,
            any_protocol: false,
        },
        queues: Queues::ONE,
        receive: Receive::Packet,
        attach: true,
    }
}

const MSS: &[u8] = &[2, 4, 5, 0xb4];
const LINUX: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7];
const WINDOWS: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];

/// The TCP header of a SYN, changing fields zero.
fn syn(options: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("a short header");
    let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, words << 4, 2, 4, 0, 0, 0, 0, 0];
    bytes.extend(options);
    bytes
}

fn syn_v4(source: &str, mac: Mac, options: &[u8]) -> Template {
    let mut bytes = ethernet::header(Mac::default(), mac, ethernet::IPV4).to_vec();
    let length = u8::try_from(40 + options.len()).expect("a short packet");
    bytes.extend([0x45, 0, 0, length, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(source.parse::<Ipv4Addr>().expect("address").octets());
    bytes.extend([0; 4]);
    bytes.extend(syn(options));
    Template::tcp(bytes, (options == LINUX).then_some(28))
}

fn syn_v6(source: &str, mac: Mac, options: &[u8]) -> Template {
    let mut bytes = ethernet::header(Mac::default(), mac, ethernet::IPV6).to_vec();
    let length = u8::try_from(20 + options.len()).expect("a short packet");
    bytes.extend([0x60, 0, 0, 0, 0, length, 6, 64]);
    bytes.extend(source.parse::<Ipv6Addr>().expect("address").octets());
    bytes.extend([0; 16]);
    bytes.extend(syn(options));
    Template::tcp(bytes, None)
}

/// Probes to one address, lane by lane; sequence numbers count from `first`.
pub fn probes(destination: &str, port: u16, first: u32, length: usize) -> Batch {
    let mut batch = Batch::empty();
    batch.resize(length);
    for (lane, number) in (first..).enumerate().take(length) {
        match destination.parse().expect("address") {
            IpAddr::V4(address) => batch.destination_v4[lane] = address.into(),
            IpAddr::V6(address) => {
                batch.destination_v6[lane] = address.into();
                batch.template[lane] = 1;
            }
        }
        batch.destination_port[lane] = port;
        batch.source_port[lane] = PORTS.0;
        batch.sequence[lane] = number;
        batch.identification[lane] = 7;
    }
    batch
}

/// Submits until every lane left, as the transmitter does; returns how often it had to wait.
pub fn submit_all(queue: &mut dyn TxQueue, batch: &Batch) -> usize {
    let mut batch = batch.clone();
    for stalls in 0..100_000 {
        let accepted = queue.submit(&batch).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(accepted.lanes & !batch.lanes(), 0, "only lanes of the batch leave");
        if accepted.lanes == batch.lanes() {
            assert_eq!(accepted.stall, None);
            return stalls;
        }
        assert!(accepted.stall.is_some(), "what did not leave has a reason");
        let left: Vec<usize> = (0..batch.len()).filter(|lane| accepted.lanes & 1 << lane == 0).collect();
        for (to, &from) in left.iter().enumerate() {
            batch.copy_lane(from, to);
        }
        batch.resize(left.len());
        std::thread::sleep(Duration::from_micros(50));
    }
    panic!("the queue stayed stalled")
}

/// Submits batches in rounds as long as the queue likes, and again what did not leave; returns how often it had to
/// wait.
pub fn submit_rounds(queue: &mut dyn TxQueue, batches: &[Batch]) -> usize {
    let (mut stalls, mut accepted) = (0, Vec::new());
    for round in batches.chunks(queue.round_length()) {
        queue.submit_round(round, &mut accepted).unwrap_or_else(|error| panic!("{error}"));
        assert!(accepted.len() <= round.len());
        for (index, batch) in round.iter().enumerate() {
            let (lanes, stall) =
                accepted.get(index).map_or((0, None), |accepted| (accepted.lanes, accepted.stall));
            assert_eq!(lanes & !batch.lanes(), 0, "only lanes of the batch leave");
            assert!(stall.is_none() || lanes != batch.lanes(), "only what did not leave has a reason");
            let left: Vec<usize> = (0..batch.len()).filter(|lane| lanes & 1 << lane == 0).collect();
            if !left.is_empty() {
                let mut batch = batch.clone();
                left.iter().enumerate().for_each(|(to, &from)| batch.copy_lane(from, to));
                batch.resize(left.len());
                stalls += 1 + submit_all(queue, &batch);
            }
        }
    }
    stalls
}

/// What a sink counts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    All,
    BySequence,
    ByTarget,
}

/// Drops every TCP frame that reaches v1, in the driver, and counts it, by its sequence number if asked to.
pub struct Sink {
    counters: SharedWords,
    _attachment: Attachment,
}

impl Sink {
    /// Sequence numbers it tells apart.
    pub const NUMBERS: u32 = 1 << 22;

    pub fn new(lab: &Lab) -> Sink {
        Sink::with_program(lab, &Sink::program(Count::BySequence))
    }

    /// A sink that counts all frames in one place: a counter for each sequence number costs a cache miss each, half
    /// the rate.
    pub fn counting(lab: &Lab) -> Sink {
        Sink::with_program(lab, &Sink::program(Count::All))
    }

    /// A sink that counts IPv4 frames by where they go: the last 14 bits of the address, the last 8 of the port.
    pub fn by_target(lab: &Lab) -> Sink {
        Sink::with_program(lab, &Sink::program(Count::ByTarget))
    }

    /// How often a target was seen, by a sink [`Sink::by_target`].
    pub fn seen_target(&self, address: u32, port: u16) -> u32 {
        self.seen((address & 0x3fff) << 8 | u32::from(port & 0xff))
    }

    fn with_program(lab: &Lab, program: &Program) -> Sink {
        lab.far(|| {
            let counters = SharedWords::new(8 + 4 * Sink::NUMBERS as usize).expect("a map");
            let program = LoadedProgram::load(ProgramKind::Xdp, program, &[&counters])
                .unwrap_or_else(|error| panic!("{error}"));
            let index = Host::read().expect("facts").interface("v1").expect("v1").index;
            let attachment = Attachment::xdp(&program, index, XdpMode::Native).expect("attached");
            Sink { counters, _attachment: attachment }
        })
    }

    /// All frames so far.
    pub fn total(&self) -> u64 {
        self.counters.double(0).load(Ordering::Relaxed)
    }

    /// How often a sequence number was seen.
    pub fn seen(&self, sequence: u32) -> u32 {
        self.counters.word(8 + 4 * sequence as usize).load(Ordering::Relaxed)
    }

    /// Waits until nothing more arrives, and says how much did.
    pub fn settled(&self) -> u64 {
        let mut before = self.total();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            let now = self.total();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    fn program(what: Count) -> Program {
        let mut program = Assembler::new();
        let (pass, v6, count) = (program.label(), program.label(), program.label());
        program.load_context(R2, R1, ContextField::Data);
        program.load_context(R3, R1, ContextField::DataEnd);
        program.set(R6, R2);
        program.compute(Operation::Add, R6, 54);
        program.jump_if(Test::Greater, R6, R3, pass);
        program.load(Size::Half, R0, R2, 12);
        program.swap_network_half(R0);
        program.jump_if(Test::Equal, R0, i32::from(ethernet::IPV6), v6);
        program.jump_if(Test::NotEqual, R0, i32::from(ethernet::IPV4), pass);
        program.load(Size::Byte, R0, R2, 23);
        program.jump_if(Test::NotEqual, R0, 6, pass);
        if what == Count::ByTarget {
            program.load(Size::Word, R0, R2, 30);
            program.swap_network_word(R0);
            program.compute(Operation::And, R0, 0x3fff);
            program.compute(Operation::ShiftLeft, R0, 8);
            program.load(Size::Byte, R1, R2, 37);
            program.compute(Operation::Or, R0, R1);
            // In the order of the wire, as the sequence numbers are.
            program.swap_network_word(R0);
        } else {
            program.load(Size::Word, R0, R2, 38);
        }
        program.jump(count);
        program.bind(v6);
        program.load(Size::Byte, R0, R2, 20);
        program.jump_if(Test::NotEqual, R0, 6, pass);
        program.compute(Operation::Add, R6, 20);
        program.jump_if(Test::Greater, R6, R3, pass);
        program.load(Size::Word, R0, R2, 58);
        program.bind(count);
        program.swap_network_word(R0);
        program.compute(Operation::And, R0, i32::try_from(Sink::NUMBERS - 1).expect("a mask"));
        program.compute(Operation::ShiftLeft, R0, 2);
        program.load_map_memory(R7, MapSlot(0), 0);
        program.set(R1, 1);
        program.atomic_add(Size::Double, R7, 0, R1);
        if what != Count::All {
            program.compute(Operation::Add, R7, R0);
            program.atomic_add(Size::Word, R7, 8, R1);
        }
        program.set(R0, 1);
        program.exit();
        program.bind(pass);
        program.set(R0, 2);
        program.exit();
        program.finish().expect("assembles")
    }
}
