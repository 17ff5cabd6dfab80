//! Generation: cursors to probes, a batch at a time, each stage its own small loop over the lanes.
//!
//! The order gives target numbers, the space their addresses and ports, the cookie their numbers and source ports.
//! No stage divides, allocates or locks; the loops are plain array code that the compiler turns into vector code.
//!
//! Invariant: pure. The same cursors give the same probes, whichever thread asks and whatever was asked before. Where the tables
//! of the space are far from the processor, the numbers of the next batch are worked out one batch early, and the memory they
//! need is asked for while this one is made (`Ahead`).

use std::sync::Arc;

use crate::batch::{Assigned, Batch, Family, LANES};
use crate::closing::HalfOpen;
use crate::cookie::{CookieKey, CookieLanes, SourcePorts};
use crate::order::{Chunk, Order};
use crate::sys::simd::Simd;
use crate::target::{Cursor, Lanes, Port, Space};

/// Makes probes of cursors.
#[derive(Clone)]
pub struct Generator {
    order: Order,
    space: Arc<Space>,
    key: CookieKey,
    ports: SourcePorts,
    /// The template of each port of each block of the space; empty where there is but one.
    templates: Box<[u16]>,
    /// The same where there are few: a table of a size that is known needs no check of its index.
    few_templates: Option<[u16; FEW]>,
    /// The template of every lane, where all targets are of one family and have one template.
    only_template: Option<u16>,
    /// The family of all targets, where they have one.
    only_family: Option<Family>,
    /// The templates that close connections, for IPv4 and for IPv6.
    resets: [u16; 2],
    /// For each template, its family and whether its frames ask the link.
    kinds: Box<[(Family, bool)]>,
    simd: Simd,
    /// Where the tables of the space are far: the numbers of the chunk that is likely to come next.
    ahead: Option<Box<Ahead>>,
}

/// The numbers of the targets of a whole batch that nobody asked for yet, so that the memory they need can be asked for.
/// What is made never depends on it: when others are asked for, it was in vain.
#[derive(Clone)]
struct Ahead {
    /// Their first cursor; none when there are none.
    first: Option<Cursor>,
    numbers: [u64; LANES],
    /// The first cursor of the batch before: the next one is likely to be as far away, as threads that share an order take
    /// turns.
    before: Cursor,
}

impl Ahead {
    const NOTHING: Ahead = Ahead { first: None, numbers: [0; LANES], before: Cursor(0) };

    /// Where the batch after this one is likely to begin.
    fn guess(&mut self, first: Cursor) -> Cursor {
        let distance = first.0.wrapping_sub(self.before.0);
        self.before = first;
        let whole = LANES as u64;
        Cursor(first.0 + if (whole..=DISTANCE_MAX).contains(&distance) { distance } else { whole })
    }
}

/// Templates of which [`Generator::few_templates`] are at most.
const FEW: usize = 32;

/// The template of a protocol's targets.
#[derive(Debug, Clone)]
enum Choice {
    /// One for all ports.
    One(u16),
    /// One for each port.
    ByPort(Box<[u16; 1 << 16]>),
}

impl Choice {
    fn of(&self, port: u16) -> u16 {
        match self {
            Choice::One(template) => *template,
            Choice::ByPort(templates) => templates[usize::from(port)],
        }
    }

    fn assign(&mut self, ports: Option<&[u16]>, template: u16) {
        let Some(ports) = ports else {
            *self = Choice::One(template);
            return;
        };
        if let Choice::One(other) = *self {
            let table: Box<[u16]> = vec![other; 1 << 16].into();
            *self = Choice::ByPort(table.try_into().expect("so many ports"));
        }
        if let Choice::ByPort(templates) = self {
            for &port in ports {
                templates[usize::from(port)] = template;
            }
        }
    }
}

/// Which template serves which targets: those for every port first, so that those for some ports win.
fn choices(templates: &[Assigned]) -> Box<[[Choice; 2]; 256]> {
    let table: Box<[[Choice; 2]]> = vec![[Choice::One(0), Choice::One(0)]; 256].into();
    let mut table: Box<[[Choice; 2]; 256]> = table.try_into().expect("256 rows");
    for all in [true, false] {
        for (index, Assigned { protocol, ports, template }) in templates.iter().enumerate() {
            let family = usize::from(template.family() == Family::V6);
            if ports.is_none() == all {
                let index = u16::try_from(index).expect("fewer than 65,536 templates");
                table[usize::from(protocol.0)][family].assign(ports.as_deref(), index);
            }
        }
    }
    table
}

/// Those of the templates that targets of a space have. Links make room for the longest, and a library of requests has long
/// ones: a scan of one port would pay for them with every frame.
pub fn used(templates: Vec<Assigned>, space: &Space) -> Vec<Assigned> {
    let choices = choices(&templates);
    let mut is_used = vec![false; templates.len()];
    for block in space.blocks() {
        for port in block.ports.iter() {
            let of_protocol = &choices[usize::from(port.protocol.0)];
            let index = usize::from(of_protocol[usize::from(block.is_v6)].of(port.number));
            if let Some(is_used) = is_used.get_mut(index) {
                *is_used = true;
            }
        }
    }
    let mut is_used = is_used.into_iter();
    templates.into_iter().filter(|_| is_used.next().unwrap_or(true)).collect()
}

impl Generator {
    /// A generator for a space in an order. `templates` says which template serves which targets; targets without one do
    /// not occur in a valid plan.
    ///
    /// # Panics
    /// When order and space differ in size, and when there are more templates than a number of 16 bits can name.
    pub fn new(
        order: Order,
        space: Arc<Space>,
        (key, ports): (CookieKey, SourcePorts),
        templates: &[Assigned],
    ) -> Generator {
        assert_eq!(order.len(), space.len(), "the order permutes exactly the targets of the space");
        let kind = |assigned: &Assigned| (assigned.template.family(), assigned.template.asks_link());
        let kinds: Box<[_]> = templates.iter().map(kind).collect();
        let resets = [u16::try_from(kinds.len()).expect("fewer than 65,536 templates"); 2];
        let choices = choices(templates);
        let mut templates = Vec::new();
        for block in space.blocks() {
            let family = usize::from(block.is_v6);
            let template = |port: &Port| choices[usize::from(port.protocol.0)][family].of(port.number);
            templates.extend(block.ports.iter().map(template));
        }
        let only_family =
            match (space.blocks().any(|block| !block.is_v6), space.blocks().any(|block| block.is_v6)) {
                (true, true) => None,
                (_, false) => Some(Family::V4),
                (false, true) => Some(Family::V6),
            };
        let alike = only_family.is_some() && templates.iter().all(|template| *template == templates[0]);
        let only_template = alike.then(|| templates[0]);
        let few_templates = (templates.len() <= FEW).then(|| {
            let mut few = [0; FEW];
            few[..templates.len()].copy_from_slice(&templates);
            few
        });
        let templates = if alike { Box::default() } else { templates.into_boxed_slice() };
        let simd = Simd::best();
        let ahead = space.is_far().then(|| Box::new(Ahead::NOTHING));
        Generator {
            order,
            space,
            key,
            ports,
            templates,
            few_templates,
            only_template,
            only_family,
            resets,
            kinds,
            simd,
            ahead,
        }
    }

    /// The same generator, with the families of the templates that close connections; they stand behind those it was made
    /// with.
    #[must_use]
    pub fn with_resets(mut self, families: &[Family]) -> Generator {
        let first = self.kinds.len();
        for (index, family) in families.iter().enumerate() {
            let template = u16::try_from(first + index).expect("fewer than 65,536 templates");
            self.resets[usize::from(*family == Family::V6)] = template;
        }
        let more = families.iter().map(|family| (*family, false));
        self.kinds = self.kinds.iter().copied().chain(more).collect();
        self
    }

    /// The family of a template.
    #[inline]
    pub fn family(&self, template: u16) -> Family {
        self.kinds.get(usize::from(template)).map_or(Family::V4, |(family, _)| *family)
    }

    /// Whether frames of a template ask the link who has an address: they need no next hop.
    #[inline]
    pub fn asks_link(&self, template: u16) -> bool {
        self.kinds.get(usize::from(template)).is_some_and(|(_, asks_link)| *asks_link)
    }

    /// Whether any template asks the link.
    pub fn any_asks_link(&self) -> bool {
        self.kinds.iter().any(|(_, asks_link)| *asks_link)
    }

    /// The same generator on other vector instructions: it makes the same probes.
    #[must_use]
    pub fn on(self, simd: Simd) -> Generator {
        Generator { simd, ..self }
    }

    /// Fills a batch with consecutive cursors of one pass; at most [`LANES`] of them.
    ///
    /// # Panics
    /// When the chunk is empty or leaves the order.
    pub fn fill(&mut self, chunk: Chunk, batch: &mut Batch) {
        let count = usize::try_from(chunk.count).map_or(LANES, |count| count.min(LANES));
        batch.resize(count);
        self.simd.run(
            #[inline(always)]
            || {
                let mut numbers = [0; LANES];
                let mut ahead = self.ahead.take();
                match &mut ahead {
                    Some(ahead) => self.look_ahead((chunk.first, count), &mut numbers, ahead),
                    None => self.order.fill_on(self.simd, chunk.first, count, &mut numbers),
                }
                for (lane, cursor) in batch.cursor.iter_mut().enumerate() {
                    *cursor = Cursor(chunk.first.0 + lane as u64);
                }
                batch.pass = [chunk.pass; LANES];
                self.probes(&numbers, ahead.as_deref(), batch);
                self.ahead = ahead;
            },
        );
    }

    /// The numbers of a batch, and those of the one that is likely to come next. None of them is worked out twice.
    #[inline(always)]
    fn look_ahead(&self, (first, count): (Cursor, usize), numbers: &mut [u64; LANES], ahead: &mut Ahead) {
        if ahead.first == Some(first) {
            // More of them than are wanted do no harm: every lane holds a target.
            *numbers = ahead.numbers;
        } else {
            self.order.fill_on(self.simd, first, count, numbers);
        }
        let next = ahead.guess(first);
        ahead.first = (count == LANES && next.0 + LANES as u64 <= self.order.len()).then_some(next);
        if ahead.first.is_some() {
            self.order.fill_on(self.simd, next, LANES, &mut ahead.numbers);
        } else {
            ahead.numbers = *numbers;
        }
    }

    /// Fills a batch with scattered cursors, each with its pass; at most [`LANES`] of them.
    ///
    /// # Panics
    /// When there is no cursor, or one is outside of the order.
    pub fn fill_scattered(&self, cursors: &[(Cursor, u8)], batch: &mut Batch) {
        let count = cursors.len().min(LANES);
        let mut numbers = [self.order.target(cursors[0].0); LANES];
        for (lane, &(cursor, pass)) in cursors[..count].iter().enumerate() {
            numbers[lane] = self.order.target(cursor);
            batch.cursor[lane] = cursor;
            batch.pass[lane] = pass;
        }
        batch.resize(count);
        self.simd.run(
            #[inline(always)]
            || self.probes(&numbers, None, batch),
        );
    }

    /// Fills a batch with the RSTs that close connections; at most [`LANES`] of them. In such a batch the cursor is the
    /// number of the target, not its place in the order.
    ///
    /// # Panics
    /// When there is none, or a number is outside of the plan.
    pub fn fill_resets(&self, half_open: &[HalfOpen], batch: &mut Batch) {
        let count = half_open.len().min(LANES);
        let mut numbers = [half_open[0].number; LANES];
        for (lane, connection) in half_open[..count].iter().enumerate() {
            numbers[lane] = connection.number;
            batch.cursor[lane] = Cursor(connection.number);
            batch.pass[lane] = connection.pass;
        }
        batch.resize(count);
        self.probes(&numbers, None, batch);
        for lane in 0..count {
            // The SYN took one number; the SYN-ACK acknowledged the next.
            batch.sequence[lane] = batch.sequence[lane].wrapping_add(1);
            let v6 = self.family(batch.template[lane]) == Family::V6;
            batch.template[lane] = self.resets[usize::from(v6)];
        }
    }

    /// Target numbers to addresses, ports and cookies. Every lane holds a number, whatever the length of the batch:
    /// the loops are then of constant length.
    #[inline(always)]
    fn probes(&self, numbers: &[u64; LANES], ahead: Option<&Ahead>, batch: &mut Batch) {
        let (mut protocol, mut is_v6, mut place) = ([0; LANES], [false; LANES], [0; LANES]);
        let mut lanes = Lanes {
            v4: &mut batch.destination_v4,
            v6: &mut batch.destination_v6,
            port: &mut batch.destination_port,
            protocol: &mut protocol,
            is_v6: &mut is_v6,
            place: &mut place,
        };
        match ahead {
            None => self.space.select_batch(numbers, &mut lanes),
            Some(ahead) => self.space.select_batch_before(numbers, &ahead.numbers, &mut lanes),
        }
        let cookies = self.cookies(batch, &protocol, &is_v6);
        if let Some(template) = self.only_template {
            batch.template = [template; LANES];
        } else if let Some(few) = &self.few_templates {
            for (template, &place) in batch.template.iter_mut().zip(&place) {
                *template = few[place as usize % FEW];
            }
        } else {
            let templates = &*self.templates;
            for (template, &place) in batch.template.iter_mut().zip(&place) {
                *template = templates[place as usize];
            }
        }
        // A loop for each field: in one loop, the widest type would decide how many lanes a vector holds.
        for lane in 0..LANES {
            batch.sequence[lane] = cookies.at(lane).sequence();
        }
        for lane in 0..LANES {
            batch.source_port[lane] = self.ports.port(cookies.at(lane), batch.pass[lane]);
        }
        for lane in 0..LANES {
            batch.identification[lane] = cookies.at(lane).identification();
        }
    }

    /// The cookies of all lanes: those of the family that all have, or those of both.
    #[inline(always)]
    fn cookies(&self, batch: &Batch, protocol: &[u8; LANES], is_v6: &[bool; LANES]) -> CookieLanes {
        let Batch { destination_v4, destination_v6, destination_port, .. } = batch;
        let mut cookies = CookieLanes::default();
        if self.only_family == Some(Family::V6) {
            self.key.cookies_v6(destination_v6, destination_port, protocol, &mut cookies);
            return cookies;
        }
        self.key.cookies_v4(destination_v4, destination_port, protocol, &mut cookies);
        if self.only_family.is_none() {
            let mut others = CookieLanes::default();
            self.key.cookies_v6(destination_v6, destination_port, protocol, &mut others);
            cookies.take(&others, is_v6);
        }
        cookies
    }
}

/// Batches that are farther apart, in cursors, belong to different places of the order.
const DISTANCE_MAX: u64 = 64 * LANES as u64;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::target::{AddressSet, Endpoints, PortSet, TargetList, parse_list, parse_ports};

    /// A generator over targets and ports, for each level of vector instructions.
    fn generators(targets: &str, ports: &str, seed: u64) -> Vec<Generator> {
        let mut list = TargetList::default();
        parse_list(targets, &mut list).expect(targets);
        of_set(&list.ranges.into_set(), ports, seed)
    }

    fn of_set(addresses: &AddressSet, ports: &str, seed: u64) -> Vec<Generator> {
        let ports: PortSet = parse_ports(ports).expect(ports);
        let space = Space::new(addresses, &ports, Endpoints::default(), &AddressSet::default());
        let space = Arc::new(space.expect("a space"));
        let secrets = (CookieKey::new([7; 16]), SourcePorts::new(16384, 16384).expect("ports"));
        let generator = Generator::new(Order::new(space.len(), seed), space, secrets, &[]);
        Simd::levels().into_iter().map(|simd| generator.clone().on(simd)).collect()
    }

    /// Checks a lane against the stages one by one: order, space, cookie.
    fn lane_is_right(generator: &Generator, batch: &Batch, lane: usize) {
        let target = generator.space.select(generator.order.target(batch.cursor[lane]));
        match target.address {
            IpAddr::V4(address) => assert_eq!(batch.destination_v4[lane], u32::from(address)),
            IpAddr::V6(address) => assert_eq!(batch.destination_v6[lane], u128::from(address)),
        }
        let cookie = generator.key.cookie(&target);
        assert_eq!(batch.destination_port[lane], target.port.number);
        assert_eq!(batch.sequence[lane], cookie.sequence());
        assert_eq!(batch.source_port[lane], generator.ports.port(cookie, batch.pass[lane]));
        assert_eq!(batch.identification[lane], cookie.identification());
    }

    proptest! {
        #[test]
        fn every_level_makes_the_probes_that_the_stages_make_one_by_one(
            (targets, ports) in prop::sample::select(vec![
                ("198.18.0.0/15", "80"),
                ("0.0.0.0/0", "1-65535"),
                ("192.0.2.7", "1-65535"),
                ("10.0.0.0/9,10.129.0.0-10.200.0.6,172.16.0.0/12", "22,80,443"),
                ("198.18.0.0/29,2001:db8::/120", "80-90"),
                ("2001:db8::/66", "80"),
            ]),
            (seed, place, count, pass) in (any::<u64>(), any::<u64>(), 1..=64u64, 0u8..3),
        ) {
            for mut generator in generators(targets, ports, seed) {
                let count = count.min(generator.order.len());
                let first = place % (generator.order.len() - count + 1);
                let mut batch = Batch::empty();
                generator.fill(Chunk { first: Cursor(first), count, pass }, &mut batch);
                prop_assert_eq!(batch.len() as u64, count);
                for lane in 0..batch.len() {
                    prop_assert_eq!((batch.cursor[lane], batch.pass[lane]), (Cursor(first + lane as u64), pass));
                    lane_is_right(&generator, &batch, lane);
                }
                let scattered: Vec<(Cursor, u8)> = (0..count)
                    .map(|lane| (Cursor(place.wrapping_mul(lane + 1) % generator.order.len()), pass))
                    .collect();
                generator.fill_scattered(&scattered, &mut batch);
                for (lane, &probe) in scattered.iter().enumerate() {
                    prop_assert_eq!((batch.cursor[lane], batch.pass[lane]), probe);
                    lane_is_right(&generator, &batch, lane);
                }
            }
        }
    }
    /// Generators over so many ranges that they look ahead.
    static FAR: LazyLock<[Vec<Generator>; 2]> = LazyLock::new(|| {
        let range = |index: u32| {
            let first = 0x1000_0000 + index * 700 + index % 97;
            (Ipv4Addr::from(first).into(), Ipv4Addr::from(first + 5 + index % 300).into())
        };
        let set = AddressSet::from_ip_ranges((0..70_000).map(range));
        ["80", "1-9"].map(|ports| of_set(&set, ports, 7))
    });

    proptest! {
        #[test]
        fn batches_in_and_out_of_sequence_are_those_that_nothing_was_asked_before(
            which in 0..2usize,
            start in any::<u64>(),
            // How far the next batch lies behind the end of the one before, in lanes; and how many probes it has.
            jumps in prop::collection::vec(
                (prop::sample::select(vec![0, 0, 0, 0, 64, 64, 128, 3, 100_000, -64, -128, -1]), 1..=80u64),
                1..40,
            ),
        ) {
            for generator in &FAR[which] {
                let mut generator = generator.clone();
                let length = generator.order.len();
                assert!(generator.ahead.is_some(), "not far: {length}");
                let (mut batch, mut first) = (Batch::empty(), start % length);
                for &(jump, count) in &jumps {
                    let count = count.min(LANES as u64).min(length - first);
                    generator.fill(Chunk { first: Cursor(first), count, pass: 0 }, &mut batch);
                    prop_assert_eq!(batch.len() as u64, count);
                    for lane in 0..batch.len() {
                        prop_assert_eq!(batch.cursor[lane], Cursor(first + lane as u64));
                        lane_is_right(&generator, &batch, lane);
                    }
                    first = (first + count).saturating_add_signed(jump) % length;
                }
            }
        }
    }

    #[test]
    fn a_walk_from_end_to_end_is_guessed_right_alone_and_by_two_threads_in_turn() {
        for (threads, guessed) in [(1u64, 30), (2, 14)] {
            let mut generator = FAR[1][0].clone();
            let (mut batch, mut right) = (Batch::empty(), 0);
            let end = generator.order.len();
            for step in 0..32 / threads {
                let first = Cursor(end - (32 - step * threads) * LANES as u64);
                right += u32::from(generator.ahead.as_ref().expect("far").first == Some(first));
                generator.fill(Chunk { first, count: LANES as u64, pass: 0 }, &mut batch);
            }
            assert!(guessed <= right, "{threads} threads: {right}");
        }
    }
}
