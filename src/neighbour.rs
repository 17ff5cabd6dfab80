//! Who has an on-link address: a bounded table the transmitter asks before it sends, and the probes that wait for
//! an answer.
//!
//! An address that is not known yet is asked for (RFC 826, RFC 4861) up to three times, a second apart; the probes to it wait
//! here. One that never answers is given up: its probes are counted as failed, never sent to a guessed address.
//!
//! Invariant: sends nothing and reads no clock; it says what to ask and takes what was answered.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::batch::NextHops;
use crate::target::Cursor;
use crate::wire::ethernet::Mac;

/// A probe that waits for its neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parked {
    /// Where in the order it stands.
    pub cursor: Cursor,
    /// Which pass.
    pub pass: u8,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It is reached through this slot of [`NextHops`].
    Hop(u16),
    /// Nobody has it, as far as three questions can tell.
    Unreachable,
    /// It was asked for; park the probe.
    Unknown,
}

/// The table.
#[derive(Debug)]
pub struct Neighbours {
    hops: NextHops,
    entries: HashMap<IpAddr, Entry>,
    /// Addresses that were answered, and those that were given up, in the order of that, to forget the oldest. What is not its
    /// entry's number any more counts for nothing.
    known: VecDeque<(u64, IpAddr)>,
    silent: VecDeque<(u64, IpAddr)>,
    /// The number of the next that is answered or given up.
    next: u64,
    /// What was answered under this number or a later one has probes that are ready and did not leave yet: it is not forgotten.
    ready_from: u64,
    free: Vec<u16>,
    /// Addresses to ask for again, by due time: all wait equally long, so the queue is sorted. One whose time is not
    /// its entry's is of an address that was answered and forgotten meanwhile, and counts for nothing.
    asked: VecDeque<(u64, IpAddr)>,
    parked: usize,
    capacity: usize,
}

#[derive(Debug)]
enum Entry {
    Known { hop: u16 },
    Asking { questions: u8, due_ns: u64, waiting: Vec<Parked> },
    Silent { number: u64 },
}

impl Neighbours {
    /// A table over the slots of `hops` from `first` on; the slots before belong to gateways.
    pub fn new(hops: NextHops, first: u16) -> Neighbours {
        Neighbours::part(hops, first, (0, 1))
    }

    /// A table over every `count`th of these slots from number `index` on: each transmit thread has a part of its own,
    /// so that none gives a slot to another address while another thread sends by it.
    pub fn part(hops: NextHops, first: u16, (index, count): (usize, usize)) -> Neighbours {
        let last = u16::try_from(hops.capacity() - 1).unwrap_or(u16::MAX);
        let mut free: Vec<u16> = (first..=last).skip(index).step_by(count.max(1)).collect();
        free.reverse();
        let capacity = free.len().max(1);
        Neighbours {
            hops,
            entries: HashMap::new(),
            known: VecDeque::new(),
            silent: VecDeque::new(),
            next: 1,
            ready_from: 1,
            free,
            asked: VecDeque::new(),
            parked: 0,
            capacity,
        }
    }

    /// What is known of an address. The first look-up of an unknown one queues a question that is due at once.
    pub fn look_up(&mut self, address: IpAddr, now_ns: u64) -> Lookup {
        match self.entries.get(&address) {
            Some(Entry::Known { hop }) => return Lookup::Hop(*hop),
            Some(Entry::Silent { .. }) => return Lookup::Unreachable,
            Some(Entry::Asking { .. }) => return Lookup::Unknown,
            None => {}
        }
        self.forget_oldest();
        self.entries.insert(address, Entry::Asking { questions: 0, due_ns: now_ns, waiting: Vec::new() });
        self.asked.push_front((now_ns, address));
        Lookup::Unknown
    }

    /// Keeps a probe until the address is known or given up.
    pub fn park(&mut self, address: IpAddr, parked: Parked) {
        if let Some(Entry::Asking { waiting, .. }) = self.entries.get_mut(&address) {
            waiting.push(parked);
            self.parked += 1;
        }
    }

    /// Number of probes that wait.
    pub fn parked(&self) -> usize {
        self.parked
    }

    /// The probes that wait.
    pub fn waiting(&self) -> impl Iterator<Item = Parked> + '_ {
        self.entries
            .values()
            .flat_map(|entry| match entry {
                Entry::Asking { waiting, .. } => waiting.as_slice(),
                Entry::Known { .. } | Entry::Silent { .. } => &[],
            })
            .copied()
    }

    /// Whether no more probes may be parked: the transmitter then takes no new targets until answers come.
    pub fn is_full(&self) -> bool {
        PARKED_MAX <= self.parked
    }

    /// The next address to ask for at `now`, if one is due. The caller sends the question; an address that was
    /// asked three times without an answer is given up, and the probes that waited for it are appended to `failed`.
    pub fn question(&mut self, now_ns: u64, failed: &mut Vec<Parked>) -> Option<IpAddr> {
        while let Some(&(due, key)) = self.asked.front() {
            if now_ns < due {
                return None;
            }
            self.asked.pop_front();
            let Some(Entry::Asking { questions, due_ns, waiting }) = self.entries.get_mut(&key) else {
                continue;
            };
            if *due_ns != due {
                continue;
            }
            if *questions < QUESTIONS {
                *questions += 1;
                *due_ns = now_ns + ANSWER_NS;
                self.asked.push_back((*due_ns, key));
                return Some(key);
            }
            self.parked -= waiting.len();
            failed.append(waiting);
            let number = self.next;
            self.next += 1;
            self.entries.insert(key, Entry::Silent { number });
            self.silent.push_back((number, key));
        }
        None
    }

    /// A question that could not be sent is due again.
    pub fn ask_again(&mut self, address: IpAddr, now_ns: u64) {
        if let Some(Entry::Asking { questions, due_ns, .. }) = self.entries.get_mut(&address) {
            *questions = questions.saturating_sub(1);
            *due_ns = now_ns;
            self.asked.retain(|&(_, other)| other != address);
            self.asked.push_front((now_ns, address));
        }
    }

    /// Takes an answer; the probes that waited for it are appended to `ready`. Answers nobody asked for are ignored.
    ///
    /// More may be asked for at a time than have room: whoever has been known longest makes it. Where all who are known have
    /// probes that did not leave yet, there is none, and the address is asked for again; it is not silent.
    pub fn answer(&mut self, address: IpAddr, mac: Mac, ready: &mut Vec<Parked>) {
        match self.entries.get_mut(&address) {
            Some(Entry::Known { hop }) => return self.hops.assign(*hop, mac),
            Some(Entry::Asking { questions, .. }) => *questions = 0,
            Some(Entry::Silent { .. }) => {}
            None if planted!(37, true, false) => return self.seed(address, mac),
            None => return,
        }
        if self.free.is_empty() {
            self.forget_known();
        }
        let Some(hop) = self.free.pop() else { return };
        self.hops.assign(hop, mac);
        let number = self.next;
        self.next += 1;
        self.known.push_back((number, address));
        if let Some(Entry::Asking { mut waiting, .. }) = self.entries.insert(address, Entry::Known { hop }) {
            self.parked -= waiting.len();
            ready.append(&mut waiting);
        }
    }

    /// All probes that answers made ready have left, or wait again: whoever is known may be forgotten from now on.
    pub fn none_ready(&mut self) {
        self.ready_from = self.next;
    }

    /// Takes what the kernel knows already.
    pub fn seed(&mut self, address: IpAddr, mac: Mac) {
        if !self.entries.contains_key(&address) && self.entries.len() < self.capacity {
            let Some(hop) = self.free.pop() else { return };
            self.hops.assign(hop, mac);
            self.entries.insert(address, Entry::Known { hop });
            self.known.push_back((0, address));
        }
    }

    /// When the next question is due; `None` when none waits.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.asked.front().map(|&(due, _)| due)
    }

    /// Forgets the address that has been known longest: its slot is free again. Nothing is under way to a slot between two
    /// batches, which is when answers are taken. False when nobody may be forgotten.
    fn forget_known(&mut self) -> bool {
        let Some(&(number, key)) = self.known.front() else { return false };
        if planted!(50, u64::MAX, self.ready_from) <= number {
            return false;
        }
        self.known.pop_front();
        if let Some(Entry::Known { hop }) = self.entries.remove(&key) {
            self.free.push(hop);
        }
        true
    }

    /// Forgets the address that has been silent longest. False when there is none.
    fn forget_silent(&mut self) -> bool {
        while let Some((number, key)) = self.silent.pop_front() {
            // It may have answered late, or been forgotten and given up again.
            if matches!(self.entries.get(&key), Some(Entry::Silent { number: now }) if *now == number) {
                self.entries.remove(&key);
                return true;
            }
        }
        false
    }

    /// Makes room for one more address. Those with waiting probes stay, and those whose probes are ready.
    fn forget_oldest(&mut self) {
        while self.capacity <= self.entries.len() {
            let (known, silent) = (self.known.front(), self.silent.front());
            let silent_first = match (known, silent) {
                (Some((known, _)), Some((silent, _))) => silent < known,
                (known, _) => known.is_none(),
            };
            let forgotten =
                silent_first && self.forget_silent() || self.forget_known() || self.forget_silent();
            if !forgotten {
                return;
            }
        }
    }
}

/// Probes that may wait at a time.
const PARKED_MAX: usize = 65_536;
const QUESTIONS: u8 = 3;
/// How long an answer is awaited: 1 second, as the kernel's RETRANS_TIMER.
const ANSWER_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn parked(cursor: u64) -> Parked {
        Parked { cursor: Cursor(cursor), pass: 0 }
    }

    fn table(capacity: u16) -> (NextHops, Neighbours) {
        let hops = NextHops::new(capacity);
        (hops.clone(), Neighbours::new(hops, 1))
    }

    #[test]
    fn a_probe_waits_for_the_answer_and_then_knows_its_hop() {
        let (hops, mut neighbours) = table(8);
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        assert_eq!(neighbours.look_up(HOST, 0), Lookup::Unknown);
        neighbours.park(HOST, parked(1));
        neighbours.park(HOST, parked(2));
        assert_eq!(neighbours.question(0, &mut failed), Some(HOST));
        assert_eq!(neighbours.question(0, &mut failed), None, "one question at a time");
        neighbours.answer(HOST, MAC, &mut ready);
        assert_eq!(ready, [parked(1), parked(2)]);
        let Lookup::Hop(hop) = neighbours.look_up(HOST, 1) else { panic!("known") };
        assert_eq!(hops.mac(hop), MAC);
        assert!(neighbours.parked() == 0 && failed.is_empty());
    }

    #[test]
    fn silence_after_three_questions_fails_the_probes() {
        let (_, mut neighbours) = table(8);
        let mut failed = Vec::new();
        assert_eq!(neighbours.look_up(HOST, 0), Lookup::Unknown);
        neighbours.park(HOST, parked(1));
        for second in 0..3 {
            assert_eq!(neighbours.question(second * ANSWER_NS, &mut failed), Some(HOST));
        }
        assert_eq!(neighbours.question(3 * ANSWER_NS - 1, &mut failed), None);
        assert!(failed.is_empty());
        assert_eq!(neighbours.question(3 * ANSWER_NS, &mut failed), None);
        assert_eq!(failed, [parked(1)]);
        assert_eq!(neighbours.look_up(HOST, 3 * ANSWER_NS), Lookup::Unreachable);
    }

    #[test]
    fn a_question_that_could_not_be_sent_does_not_count() {
        let (_, mut neighbours) = table(8);
        let mut failed = Vec::new();
        neighbours.look_up(HOST, 0);
        for _ in 0..10 {
            assert_eq!(neighbours.question(0, &mut failed), Some(HOST));
            neighbours.ask_again(HOST, 0);
        }
        assert!(failed.is_empty());
    }

    #[test]
    fn the_parts_of_threads_share_no_slot_and_leave_none_out() {
        let hops = NextHops::new(12);
        let mut seen = Vec::new();
        for index in 0..3 {
            let mut part = Neighbours::part(hops.clone(), 1, (index, 3));
            for host in 0..=255 {
                let before = part.free.len();
                part.seed(IpAddr::from([192, 0, 2, host]), MAC);
                if before == part.free.len() {
                    break;
                }
            }
            seen.extend(part.entries.values().map(|entry| match entry {
                Entry::Known { hop } => *hop,
                other => panic!("{other:?}"),
            }));
        }
        seen.sort_unstable();
        assert_eq!(seen, (1..12).collect::<Vec<u16>>());
    }

    #[test]
    fn answers_nobody_asked_for_are_ignored() {
        let (hops, mut neighbours) = table(4);
        let mut ready = Vec::new();
        neighbours.answer(HOST, MAC, &mut ready);
        assert_eq!((0..4).map(|hop| hops.mac(hop)).collect::<Vec<_>>(), [Mac::default(); 4]);
    }

    #[test]
    fn an_address_that_was_forgotten_and_is_asked_for_again_has_its_three_seconds() {
        let (_, mut neighbours) = table(2);
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        let other = IpAddr::from([192, 0, 2, 8]);
        for (now_ns, address) in [(0, HOST), (1, other)] {
            assert_eq!(neighbours.look_up(address, now_ns), Lookup::Unknown);
            assert_eq!(neighbours.question(now_ns, &mut failed), Some(address));
            neighbours.answer(address, MAC, &mut ready);
            neighbours.none_ready();
        }
        let again = ANSWER_NS - 1;
        assert_eq!(neighbours.look_up(HOST, again), Lookup::Unknown);
        assert_eq!(neighbours.question(again, &mut failed), Some(HOST));
        assert_eq!(neighbours.question(ANSWER_NS, &mut failed), None, "the first question is history");
        assert_eq!(neighbours.question(again + ANSWER_NS, &mut failed), Some(HOST));
    }

    #[test]
    fn nobody_is_forgotten_while_probes_to_him_are_ready_and_nobody_who_answers_is_given_up() {
        let (_, mut neighbours) = table(3);
        let (mut ready, mut failed, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let address = |host: u64| IpAddr::from([192, 0, 2, host as u8]);
        for host in 0..20 {
            neighbours.look_up(address(host), 0);
            neighbours.park(address(host), parked(host));
        }
        // All of them answer at once, again and again, and two have room at a time.
        for round in 0..10 {
            while let Some(asked) = neighbours.question(round * ANSWER_NS, &mut failed) {
                neighbours.answer(asked, MAC, &mut ready);
            }
            assert_eq!(ready.len(), 2, "round {round}");
            for Parked { cursor, .. } in ready.drain(..) {
                assert!(matches!(neighbours.look_up(address(cursor.0), 0), Lookup::Hop(_)));
                left.push(cursor.0);
            }
            neighbours.none_ready();
        }
        left.sort_unstable();
        assert_eq!((left, failed), ((0..20).collect(), Vec::new()));
    }

    #[test]
    fn the_table_forgets_the_oldest_and_never_those_with_waiting_probes() {
        let (_, mut neighbours) = table(4);
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        let waiting = IpAddr::from([192, 0, 2, 200]);
        neighbours.look_up(waiting, 0);
        neighbours.park(waiting, parked(9));
        for host in 1..100 {
            let address = IpAddr::from([192, 0, 2, host]);
            assert_eq!(neighbours.look_up(address, 0), Lookup::Unknown);
            while neighbours.question(0, &mut failed).is_some() {}
            neighbours.answer(address, MAC, &mut ready);
            assert!(matches!(neighbours.look_up(address, 0), Lookup::Hop(_)), "{address}");
            neighbours.none_ready();
        }
        neighbours.answer(waiting, MAC, &mut ready);
        assert_eq!(ready, [parked(9)]);
    }
}
