//! What stands at a target: the trait [`Behaviour`] and the registry [`BEHAVIOURS`]. One file and its row per kind.
//!
//! Contract of the family. A behaviour is a pure function of the probe and of the random numbers drawn for it: it
//! remembers nothing, so the same probe draws the same answers whenever it comes. What it answers, the way back may
//! still lose or damage.

mod closed;
mod mirror;
mod open;
mod reject;
mod silent;
mod stale;
mod storm;
mod tarpit;
mod wavering;

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::answers::Answers;
use super::draws::Draws;
use super::probe::Probe;

/// Every kind of behaviour.
pub const BEHAVIOURS: &[Kind] = &[
    open::KIND,
    closed::KIND,
    silent::KIND,
    reject::KIND,
    tarpit::KIND,
    wavering::KIND,
    storm::KIND,
    stale::KIND,
    mirror::KIND,
];

/// What a target does with a probe.
pub trait Behaviour: Debug + Send + Sync {
    /// Writes what comes back.
    fn answer(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers);

    /// Errors a second that the router before the targets sends at most; `None` when there is no limit.
    fn errors_per_second(&self) -> Option<u32> {
        None
    }
}

/// A row of the registry: one kind of behaviour.
pub struct Kind {
    /// The word after `answer =` in a scenario.
    pub name: &'static str,
    /// One line for the documentation.
    pub about: &'static str,
    /// Makes it from the other keys of its rule.
    pub(super) read: fn(toml::Table) -> Result<Box<dyn Behaviour>, String>,
}

/// What most rows' `read` is: the keys of the rule are the fields of the type.
fn keys<T: Behaviour + DeserializeOwned + 'static>(table: toml::Table) -> Result<Box<dyn Behaviour>, String> {
    match table.try_into::<T>() {
        Ok(behaviour) => Ok(Box::new(behaviour)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_works_without_keys() {
        for (index, kind) in BEHAVIOURS.iter().enumerate() {
            assert!(BEHAVIOURS[..index].iter().all(|other| other.name != kind.name));
            assert!(!kind.about.is_empty() && kind.about.len() <= 80, "{}", kind.name);
            (kind.read)(toml::Table::new()).expect(kind.name);
            let unknown = [("colour".to_owned(), toml::Value::Integer(1))].into_iter().collect();
            let error = (kind.read)(unknown).expect_err(kind.name);
            assert!(error.contains("colour"), "{}: {error}", kind.name);
        }
    }
}
