//! How each destination is reached from this host, as a table the transmitter looks up for every probe.
//!
//! Invariant: plain data. What it says comes from the host's routes; it never asks the kernel.

/// How one destination is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through a slot of the next-hop table that is filled for the whole scan (a gateway, or nothing to fill).
    Hop(u16),
    /// Directly: its neighbour must be asked for.
    OnLink,
    /// It means many stations (a broadcast address of this host's networks): never probed.
    ManyStations,
    /// It is this host itself, which does not answer over the wire.
    Own,
}

/// The paths of both address spaces from one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    v4: Table<u32>,
    v6: Table<u128>,
}

/// The paths of one address space: each begins where its first address says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table<T> {
    /// Sorted; the first is 0.
    first: Vec<T>,
    path: Vec<Path>,
}

impl Paths {
    /// Every destination through one hop.
    pub fn single(path: Path) -> Paths {
        Paths { v4: Table::new(vec![(0, path)]), v6: Table::new(vec![(0, path)]) }
    }

    /// IPv4 segments given by their first address. Addresses before the first segment are this table's default: the
    /// first segment's path. Of IPv6 there is as good as nothing: one segment with that same path.
    ///
    /// # Panics
    /// When there is no segment.
    pub fn new(segments: Vec<(u32, Path)>) -> Paths {
        let v4 = Table::new(segments);
        Paths { v6: Table::new(vec![(0, v4.path[0])]), v4 }
    }

    /// Segments of both families; a family without segments has no targets, and takes the path of the other's first.
    ///
    /// # Panics
    /// When neither has a segment.
    pub fn of_both(v4: Vec<(u32, Path)>, v6: Vec<(u128, Path)>) -> Paths {
        match (v4.is_empty(), v6.is_empty()) {
            (false, true) => Paths::new(v4),
            (true, false) => {
                let v6 = Table::new(v6);
                Paths { v4: Table::new(vec![(0, v6.path[0])]), v6 }
            }
            _ => Paths { v4: Table::new(v4), v6: Table::new(v6) },
        }
    }

    /// The path to an IPv4 address.
    #[inline]
    pub fn to(&self, address: u32) -> Path {
        self.v4.to(address)
    }

    /// The path to an IPv6 address.
    #[inline]
    pub fn to_v6(&self, address: u128) -> Path {
        self.v6.to(address)
    }

    /// The one path of all destinations, where there is only one: then nothing needs to be looked up.
    pub fn only(&self) -> Option<Path> {
        let [v4] = self.v4.path[..] else { return None };
        (self.v6.path == [v4]).then_some(v4)
    }
}

impl<T: Copy + Ord + Default> Table<T> {
    fn new(mut segments: Vec<(T, Path)>) -> Table<T> {
        assert!(!segments.is_empty(), "a path table covers the whole space");
        segments.sort_by_key(|&(first, _)| first);
        segments.dedup_by(|next, kept| next.1 == kept.1);
        segments[0].0 = T::default();
        let (first, path) = segments.into_iter().unzip();
        Table { first, path }
    }

    #[inline]
    fn to(&self, address: T) -> Path {
        let after = self.first.partition_point(|&first| first <= address);
        self.path[after.saturating_sub(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_takes_the_path_of_its_segment() {
        let paths =
            Paths::new(vec![(100, Path::OnLink), (0, Path::Hop(0)), (200, Path::Hop(0)), (150, Path::Own)]);
        let at = |address| paths.to(address);
        assert_eq!(
            [at(0), at(99), at(100), at(149)],
            [Path::Hop(0), Path::Hop(0), Path::OnLink, Path::OnLink]
        );
        assert_eq!(
            [at(150), at(199), at(200), at(u32::MAX)],
            [Path::Own, Path::Own, Path::Hop(0), Path::Hop(0)]
        );
        assert_eq!(paths.only(), None);
        assert_eq!(Paths::new(vec![(0, Path::OnLink), (9, Path::OnLink)]).only(), Some(Path::OnLink));
        let both = Paths::of_both(vec![(0, Path::Hop(0))], vec![(0, Path::Hop(0)), (1 << 64, Path::OnLink)]);
        assert_eq!(
            (both.to(7), both.to_v6(1 << 64), both.to_v6(7)),
            (Path::Hop(0), Path::OnLink, Path::Hop(0))
        );
        assert_eq!(both.only(), None);
        assert_eq!(Paths::of_both(vec![], vec![(5, Path::OnLink)]).only(), Some(Path::OnLink));
    }
}
