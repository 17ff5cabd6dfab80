//! Nothing comes back: nobody is there, or a firewall drops.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::world::answers::Answers;
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind =
    Kind { name: "silent", about: "nobody there, or a firewall that drops", read: keys::<Silent> };

/// Silence.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Silent {}

impl Behaviour for Silent {
    fn answer(&self, _probe: &Probe<'_>, _draws: &mut Draws, _answers: &mut Answers) {}
}
