//! `swath TARGETS --audit ftp-bounce --bounce-to ADDRESS`: tells owners which of their FTP servers would open a data
//! connection to somebody else (RFC 2577 section 3, CERT CA-1997-27).
//!
//! One conversation for each server: the greeting, `USER anonymous`, `PASS` with a mail address, `PORT` (`EPRT` for
//! IPv6) with an address of the user's that is not the connection's, `QUIT`. No password is guessed and no transfer is
//! asked for, so the server connects to nobody; its reply to `PORT` is the verdict.
//!
//! Verdicts are lines on standard output, or with `-o` results: the open port, and attached to it under `KEY` the verdict
//! and what the server said last.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Exit, complain, scan as command};
use crate::cli::{Args, build};
use crate::event::{Manifest, Proof, Reason, Record, State, Status, Untrusted};
use crate::host::Host;
use crate::order::Order;
use crate::plan::Plan;
use crate::scan;
use crate::sink::{self, Sink, SinkError};
use crate::sys::clock;
use crate::target::{Cursor, Target};
use crate::text::{counted, harmless};

/// Runs the command. Exits with 3 when a server would.
pub fn run(args: &Args) -> Exit {
    let (plan, bounce_to, mut report) = match prepared(args) {
        Ok(prepared) => prepared,
        Err((error, exit)) => {
            complain(&format!("swath: {error}\n"));
            return exit;
        }
    };
    let interval = args.rate.frames_per_second().map(|rate| Duration::from_secs_f64(1.0 / rate));
    report = audit(&plan, bounce_to, interval, report);
    let tally = report.tally;
    let errors = report.finish();
    for error in &errors {
        complain(&format!("swath: {error}\n"));
    }
    let [allowed, refused, closed_to_us, no_ftp, silent] = tally;
    complain(&format!(
        "audited {}: {allowed} would connect elsewhere, {refused} refuse to, {closed_to_us} let nobody in anonymously, {no_ftp} speak no FTP, {silent} did not answer\n",
        counted(u128::from(tally.iter().sum::<u64>()), "target"),
    ));
    match allowed {
        _ if !errors.is_empty() => Exit::KnownLoss,
        0 => Exit::Done,
        _ => Exit::Difference,
    }
}

/// The plan, of connections to the FTP port unless the user says another; the address to name; and where verdicts go.
fn prepared(args: &Args) -> Result<(Plan, IpAddr, Report), (String, Exit)> {
    let usage = |text: &str| (text.to_owned(), Exit::Usage);
    let bounce_to =
        args.audit.bounce_to.ok_or_else(|| usage("--audit ftp-bounce needs --bounce-to ADDRESS"))?;
    if args.outputs.output_filter.is_some() {
        return Err(usage(
            "--output-filter does not go with --audit; filter what it wrote with swath convert",
        ));
    }
    let mut args = args.clone();
    if args.ports.is_empty() && args.top_ports.is_none() && args.include_file.is_empty() {
        args.ports.push("21".into());
    }
    args.probes.scan = vec![crate::cli::CONNECT];
    let plan = build::plan(&args).map_err(command::refused)?;
    let lines = args.output.is_empty() && !args.outputs.names_some();
    let mut report = Report::new(lines);
    if !lines {
        let places = command::places(&args).map_err(command::sink_refused)?;
        if let Some((name, kind, _)) = places.iter().find(|(_, kind, _)| !WITH_ROOM.contains(&kind.name)) {
            let rooms = WITH_ROOM.join(", ");
            let name = harmless(name);
            return Err(usage(&format!(
                "{name}: {} has no room for what an audit found; there are {rooms}",
                kind.name
            )));
        }
        let setup = build::setup(&args, &plan, Host::read).map_err(command::refused)?;
        let argv = std::env::args_os().map(|word| sink::without_password(&word.to_string_lossy())).collect();
        let manifest = Manifest { probes: vec![KEY.to_owned()], ..scan::manifest(&plan, &setup, argv) };
        let opened = command::outlets(&args, places).map_err(command::sink_refused)?;
        let sinks = opened.into_iter().map(|outlet| (outlet.name, outlet.sink));
        report.begin(sinks, manifest).map_err(command::sink_refused)?;
    }
    Ok((plan, bounce_to, report))
}

/// Where verdicts go.
struct Report {
    /// How many there were of each kind of verdict.
    tally: [u64; 5],
    /// Whether they are lines on standard output.
    lines: bool,
    outputs: Vec<Output>,
    manifest: Manifest,
    committed: Instant,
}

/// A place that results go to.
struct Output {
    name: String,
    sink: Box<dyn Sink>,
    /// What went wrong: then it is only told the end.
    error: Option<SinkError>,
}

impl Report {
    fn new(lines: bool) -> Report {
        let manifest = Manifest::default();
        Report { tally: [0; 5], lines, outputs: Vec::new(), manifest, committed: Instant::now() }
    }

    fn begin(
        &mut self,
        sinks: impl Iterator<Item = (String, Box<dyn Sink>)>,
        manifest: Manifest,
    ) -> Result<(), SinkError> {
        for (name, mut sink) in sinks {
            sink.begin(&manifest)?;
            self.outputs.push(Output { name, sink, error: None });
        }
        self.manifest = manifest;
        Ok(())
    }

    /// Counts a verdict and writes it; of who did not answer there is nothing to write.
    fn add(&mut self, target: Target, verdict: Verdict, said: &str) {
        self.tally[verdict as usize] += 1;
        if verdict == Verdict::Silent {
            return;
        }
        let (name, said) = (verdict.name(), said.trim());
        if self.lines {
            let to = SocketAddr::new(target.address, target.port.number);
            // A reader that left has read enough; the summary still comes.
            let line = format!("Audited ftp-bounce {to} {name}: {said}\n");
            let _ = std::io::stdout().write_all(harmless(&line).as_bytes());
        }
        let mut record = Record::new(target, target.address, State::Open, Reason::SYN_ACK);
        // As of a connect scan: the kernel's connection proves itself.
        (record.time_ns, record.proof) = (clock::realtime_ns(), Proof::Strong);
        let bytes = Untrusted(format!("{name}: {said}").into_bytes());
        let due = Duration::from_secs(1) <= self.committed.elapsed();
        for output in self.outputs.iter_mut().filter(|output| output.error.is_none()) {
            let mut written =
                output.sink.write(&[record]).and_then(|()| output.sink.attach(&record, KEY, &bytes));
            if due {
                written = written.and_then(|()| output.sink.commit().map(|_| ()));
            }
            output.error = written.err();
        }
        if due {
            self.committed = Instant::now();
        }
    }

    /// Ends every output; returns what went wrong with any of them.
    fn finish(mut self) -> Vec<String> {
        self.manifest.finished_us = Some(clock::realtime_ns() / 1000);
        let mut errors = Vec::new();
        for Output { name, sink, error } in self.outputs {
            let status = if error.is_none() { Status::Complete } else { Status::Failed };
            let ended = sink.finish(&Manifest { status, ..self.manifest.clone() });
            let error = error.or(ended.err());
            errors.extend(error.map(|error| format!("{}: {error}", harmless(&name))));
        }
        errors
    }
}

/// What became of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused,
    ClosedToUs,
    NoFtp,
    Silent,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Refused => "refused",
            Verdict::ClosedToUs => "no-anonymous-login",
            Verdict::NoFtp => "no-ftp",
            Verdict::Silent => "silent",
        }
    }
}

/// Asks every target once, in the order of the plan and at its rate; reports what came of it.
fn audit(plan: &Plan, bounce_to: IpAddr, interval: Option<Duration>, report: Report) -> Report {
    let report = Mutex::new(report);
    let (sender, receiver) = mpsc::sync_channel::<Target>(1);
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for _ in 0..CONVERSATIONS {
            scope.spawn(|| work(&receiver, bounce_to, &report));
        }
        let (order, begin): (Order, Instant) = (plan.order(), Instant::now());
        for (turn, cursor) in plan.shard.cursors(plan.space.len()).enumerate() {
            let target = plan.space.select(order.target(Cursor(cursor)));
            // The last gate: what is excluded is not asked, whatever the plan says.
            if plan.excluded.contains(target.address) {
                continue;
            }
            if let Some(interval) = interval {
                let due = begin + interval.mul_f64(turn as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            if sender.send(target).is_err() {
                break;
            }
        }
        drop(sender);
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn work(receiver: &Mutex<Receiver<Target>>, bounce_to: IpAddr, report: &Mutex<Report>) {
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(target) = next else { return };
        let (verdict, said) = converse(SocketAddr::new(target.address, target.port.number), bounce_to);
        report.lock().unwrap_or_else(PoisonError::into_inner).add(target, verdict, &said);
    }
}

/// One conversation: what it came to, and what the server said last.
fn converse(to: SocketAddr, bounce_to: IpAddr) -> (Verdict, String) {
    let Ok(stream) = TcpStream::connect_timeout(&to, PATIENCE) else {
        return (Verdict::Silent, String::new());
    };
    let local = stream.local_addr().map(|local| local.ip().to_canonical());
    if local.is_ok_and(|local| local == bounce_to) || bounce_to == to.ip() {
        return (Verdict::Silent, String::new());
    }
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut session = Session { reader: BufReader::new(stream) };
    let outcome = session.bounce(&asked_for(bounce_to));
    let _ = session.say("QUIT");
    outcome.unwrap_or((Verdict::NoFtp, String::new()))
}

/// The command that names an address for data (RFC 959 section 4.1.2, RFC 2428 section 2).
fn asked_for(bounce_to: IpAddr) -> String {
    match bounce_to {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("PORT {a},{b},{c},{d},{},{}", PORT >> 8, PORT & 0xff)
        }
        IpAddr::V6(address) => format!("EPRT |2|{address}|{PORT}|"),
    }
}

struct Session {
    reader: BufReader<TcpStream>,
}

impl Session {
    /// The conversation up to the reply that decides; `None` when the server does not speak FTP.
    fn bounce(&mut self, port: &str) -> Option<(Verdict, String)> {
        let (code, said) = self.reply()?;
        if code != 220 {
            return Some((Verdict::ClosedToUs, said));
        }
        let (mut code, mut said) = self.ask("USER anonymous")?;
        if code == 331 {
            (code, said) = self.ask("PASS swath@example.invalid")?;
        }
        if code != 230 {
            return Some((Verdict::ClosedToUs, said));
        }
        let (code, said) = self.ask(port)?;
        Some((if (200..300).contains(&code) { Verdict::Allowed } else { Verdict::Refused }, said))
    }

    fn ask(&mut self, command: &str) -> Option<(u16, String)> {
        self.say(command).ok()?;
        self.reply()
    }

    fn say(&mut self, command: &str) -> std::io::Result<()> {
        self.reader.get_mut().write_all(format!("{command}\r\n").as_bytes())
    }

    /// A reply of one or several lines (RFC 959 section 4.2): its code and its last line.
    fn reply(&mut self) -> Option<(u16, String)> {
        let mut wanted = None;
        for _ in 0..LINES {
            let mut line = Vec::new();
            self.reader.by_ref().take(LINE).read_until(b'\n', &mut line).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok()).filter(|code| *code < 600);
            let ends = line.as_bytes().get(3).is_none_or(|byte| *byte != b'-');
            match (code, wanted) {
                (Some(code), None) if ends => return Some((code, line)),
                (Some(code), None) => wanted = Some(code),
                (Some(code), Some(first)) if code == first && ends => return Some((code, line)),
                (None, None) => return None,
                _ => {}
            }
        }
        None
    }
}

/// What verdicts are attached under.
const KEY: &str = "ftp-bounce";
/// The kinds of output that hold attachments.
const WITH_ROOM: &[&str] = &[
    "ndjson",
    "csv",
    "sqlite",
    "postgres",
    "nmap-xml",
    "masscan-list",
    "masscan-json",
    "masscan-ndjson",
    "masscan-grepable",
    "masscan-xml",
    "masscan-binary",
];
/// Conversations at a time.
const CONVERSATIONS: usize = 32;
/// How long a server may take for each answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The port we name: nobody is connected to it.
const PORT: u16 = 40_021;
/// Longest line that is read, in bytes.
const LINE: u64 = 1024;
/// Most lines of one reply.
const LINES: usize = 100;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server of ours on loopback that says what the script says, and notes what it was told.
    fn scripted(replies: &'static [&'static str]) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client");
            let mut reader = BufReader::new(stream);
            let mut told = Vec::new();
            for reply in replies {
                reader.get_mut().write_all(reply.as_bytes()).expect("written");
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                told.push(line.trim_end().to_owned());
            }
            told
        });
        (address, thread)
    }

    #[test]
    fn the_reply_to_port_decides_and_no_transfer_is_asked_for() {
        let elsewhere = IpAddr::from([192, 0, 2, 77]);
        for (replies, expected) in [
            (&["220 ready\r\n", "331 mail?\r\n", "230 in\r\n", "200 PORT ok\r\n"][..], Verdict::Allowed),
            (
                &["220-Welcome\r\n  to all\r\n220 ready\r\n", "230 in\r\n", "500 Illegal PORT command.\r\n"],
                Verdict::Refused,
            ),
            (&["220 ready\r\n", "530 no anonymous\r\n"], Verdict::ClosedToUs),
            (&["421 too many\r\n"], Verdict::ClosedToUs),
            (&["SSH-2.0-x\r\n"], Verdict::NoFtp),
        ] {
            let (address, thread) = scripted(replies);
            let (verdict, _) = converse(address, elsewhere);
            assert_eq!(verdict, expected, "{replies:?}");
            let told = thread.join().expect("ended");
            let allowed = ["USER anonymous", "PASS swath@example.invalid", "PORT 192,0,2,77,156,85", "QUIT"];
            assert!(told.iter().all(|line| allowed.contains(&line.as_str())), "{told:?}");
        }
        assert_eq!(asked_for("2001:db8::7".parse().expect("address")), "EPRT |2|2001:db8::7|40021|");
    }
}
