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

/// The paths of the whole IPv4 space from one interface.
#[derive(Debug, Clone)]
pub struct Paths {
    /// First address of each segment; sorted, the first is 0.
    first: Vec<u32>,
    path: Vec<Path>,
}

impl Paths {
    /// Every destination through one hop.
    pub fn single(path: Path) -> Paths {
        Paths { first: vec![0], path: vec![path] }
    }

    /// Segments given by their first address. Addresses before the first segment are this table's default: the
    /// first segment's path.
    ///
    /// # Panics
    /// When there is no segment.
    pub fn new(mut segments: Vec<(u32, Path)>) -> Paths {
        assert!(!segments.is_empty(), "a path table covers the whole space");
        segments.sort_by_key(|&(first, _)| first);
        segments.dedup_by(|next, kept| next.1 == kept.1);
        segments[0].0 = 0;
        let (first, path) = segments.into_iter().unzip();
        Paths { first, path }
    }

    /// The path to an address.
    #[inline]
    pub fn to(&self, address: u32) -> Path {
        let after = self.first.partition_point(|&first| first <= address);
        self.path[after.saturating_sub(1)]
    }

    /// The one path of all destinations, where there is only one: then nothing needs to be looked up.
    pub fn only(&self) -> Option<Path> {
        (self.path.len() == 1).then(|| self.path[0])
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
    }
}
