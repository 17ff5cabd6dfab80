//! A scenario: which behaviours stand where, what the way there does, and who forges. A TOML text, or one of the
//! built-in ones.

use serde::Deserialize;

use super::adversary::Adversaries;
use super::behaviour::{BEHAVIOURS, Behaviour};
use super::draws::Draws;
use super::neighbour::Neighbourhood;
use super::path::Path;
use super::probe::address_keys;
use crate::target::{AddressSet, PortSet, Protocol, Target, TargetList, parse_list, parse_ports};

/// The scenarios that every swath knows by name. A new one is its file and a line here.
pub const SCENARIOS: &[(&str, &str)] = &[
    ("quiet", include_str!("scenarios/quiet.toml")),
    ("internet", include_str!("scenarios/internet.toml")),
    ("hostile", include_str!("scenarios/hostile.toml")),
];

/// What the world is like.
#[derive(Debug)]
pub struct Scenario {
    /// One line for the banner.
    pub about: String,
    /// What random draws begin with.
    pub seed: u64,
    /// The way to all targets and back.
    pub path: Path,
    /// The stations of the scanner's own network.
    pub neighbours: Neighbourhood,
    /// Who sends what nobody asked for.
    pub adversaries: Adversaries,
    /// Who answers: the first rule that holds for a target.
    rules: Vec<Rule>,
}

/// Why a text is no scenario. Names the rule and the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(String);

impl Scenario {
    /// The built-in scenario of that name.
    pub fn named(name: &str) -> Option<Scenario> {
        let (_, text) = SCENARIOS.iter().find(|(known, _)| *known == name)?;
        Some(text.parse().expect("built-in scenarios are tested"))
    }

    /// What stands at a target.
    pub fn behaviour(&self, target: &Target) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.holds(self.seed, target))
    }
}

/// Who answers where.
#[derive(Debug)]
pub struct Rule {
    /// The kind of behaviour, by name.
    pub answer: &'static str,
    addresses: Option<AddressSet>,
    ports: Option<PortSet>,
    share: f64,
    per_host: bool,
    number: u64,
    pub(super) behaviour: Box<dyn Behaviour>,
}

impl Rule {
    /// Whether this rule is about a target: it lies inside, and the lot, which is the same whenever it is drawn, falls on
    /// it.
    fn holds(&self, seed: u64, target: &Target) -> bool {
        self.addresses.as_ref().is_none_or(|addresses| addresses.contains(target.address))
            && self.covers_port(target)
            && (1.0 <= self.share || {
                let [high, low] = address_keys(target.address);
                let port = u64::from(target.port.number) << 8 | u64::from(target.port.protocol.0);
                let port = if self.per_host { u64::MAX } else { port };
                Draws::new(seed, &[RULES, self.number, high, low, port]).chance(self.share)
            })
    }

    /// ICMP has no ports: rules about all ports hold for it, others do not.
    fn covers_port(&self, target: &Target) -> bool {
        let portless = matches!(target.port.protocol, Protocol::ICMP | Protocol::ICMPV6);
        self.ports.as_ref().is_none_or(|ports| !portless && ports.contains(target.port))
    }
}

impl std::str::FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Scenario, ScenarioError> {
        let file: File = toml::from_str(text).map_err(|error| ScenarioError(error.to_string()))?;
        let mistakes = [
            ("path", file.path.mistake()),
            ("neighbours", file.neighbours.mistake()),
            ("adversaries", file.adversaries.mistake()),
        ];
        for (table, mistake) in mistakes {
            if let Some(key) = mistake {
                return Err(ScenarioError(format!("[{table}] {key} is out of range")));
            }
        }
        let rules = file.rule.into_iter().enumerate();
        let rules = rules.map(|(number, rule)| {
            rule.build(number as u64).map_err(|error| ScenarioError(format!("rule {}: {error}", number + 1)))
        });
        Ok(Scenario {
            about: file.about,
            seed: file.seed,
            path: file.path,
            neighbours: file.neighbours,
            adversaries: file.adversaries,
            rules: rules.collect::<Result<Vec<Rule>, ScenarioError>>()?,
        })
    }
}

/// The text as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    path: Path,
    #[serde(default)]
    neighbours: Neighbourhood,
    #[serde(default)]
    adversaries: Adversaries,
    #[serde(default)]
    rule: Vec<RuleText>,
}

/// A rule as it is written; what is left of it belongs to its behaviour.
#[derive(Deserialize)]
struct RuleText {
    answer: String,
    addresses: Option<String>,
    ports: Option<String>,
    #[serde(default = "all")]
    share: f64,
    #[serde(default)]
    per_host: bool,
    #[serde(flatten)]
    keys: toml::Table,
}

fn all() -> f64 {
    1.0
}

impl RuleText {
    fn build(self, number: u64) -> Result<Rule, String> {
        let kind = BEHAVIOURS.iter().find(|kind| kind.name == self.answer).ok_or_else(|| {
            let names: Vec<&str> = BEHAVIOURS.iter().map(|kind| kind.name).collect();
            format!("there is no answer '{}'; there are {}", self.answer, names.join(", "))
        })?;
        if !(0.0..=1.0).contains(&self.share) {
            return Err(format!("share {} is no probability", self.share));
        }
        let ports = self.ports.map(|text| parse_ports(&text)).transpose();
        Ok(Rule {
            answer: kind.name,
            addresses: self.addresses.map(|text| addresses(&text)).transpose()?,
            ports: ports.map_err(|error| error.to_string())?,
            share: self.share,
            per_host: self.per_host,
            number,
            behaviour: (kind.read)(self.keys)?,
        })
    }
}

fn addresses(text: &str) -> Result<AddressSet, String> {
    let mut list = TargetList::default();
    for part in text.split(',') {
        parse_list(part.trim(), &mut list).map_err(|error| error.to_string())?;
    }
    if !list.names.is_empty() || !list.endpoints.is_empty() {
        return Err(format!("'{text}': addresses are given as addresses and blocks"));
    }
    Ok(list.ranges.into_set())
}

/// The name of a lot that is drawn: rules.
const RULES: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Port;

    fn target(address: &str, protocol: Protocol, number: u16) -> Target {
        Target { address: address.parse().expect("address"), port: Port { protocol, number } }
    }

    #[test]
    fn every_built_in_scenario_is_one_and_says_what_it_is() {
        for (name, _) in SCENARIOS {
            let scenario = Scenario::named(name).expect(name);
            assert!((10..=90).contains(&scenario.about.len()), "{name}: {}", scenario.about);
        }
        assert!(Scenario::named("elsewhere").is_none());
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let scenario: Scenario = r#"
            about = "three rules"
            [[rule]]
            answer = "closed"
            addresses = "198.18.0.0/24, 2001:db8::/120"
            ports = "80"
            [[rule]]
            answer = "tarpit"
            addresses = "198.18.0.0/24"
            [[rule]]
            answer = "open"
            share = 0.5
            per_host = true
        "#
        .parse()
        .expect("a scenario");
        let answer = |target: Target| scenario.behaviour(&target).map(|rule| rule.answer);
        assert_eq!(answer(target("198.18.0.7", Protocol::TCP, 80)), Some("closed"));
        assert_eq!(answer(target("2001:db8::7", Protocol::TCP, 80)), Some("closed"));
        assert_eq!(answer(target("198.18.0.7", Protocol::TCP, 81)), Some("tarpit"));
        assert_eq!(answer(target("198.18.0.7", Protocol::ICMP, 8)), Some("tarpit"), "a rule without ports");
        let mut open = 0;
        for host in 0..=255 {
            let one = answer(target(&format!("198.18.9.{host}"), Protocol::TCP, 1));
            let other = answer(target(&format!("198.18.9.{host}"), Protocol::TCP, 2));
            assert_eq!(one, other, "one lot for the host");
            open += u32::from(one == Some("open"));
        }
        assert!((90..=166).contains(&open), "{open} of 256 at one half");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, needle) in [
            ("seed = 1", "about"),
            ("about = 'x'\ncolour = 1", "colour"),
            ("about = 'x'\n[path]\nloss = 1.5", "[path] loss"),
            ("about = 'x'\n[adversaries]\nsyn_ack = -1", "[adversaries] syn_ack"),
            ("about = 'x'\n[neighbours]\nsilent = 2", "[neighbours] silent"),
            ("about = 'x'\n[[rule]]\nanswer = 'opne'", "rule 1: there is no answer 'opne'; there are open,"),
            (
                "about = 'x'\n[[rule]]\nanswer = 'open'\n[[rule]]\nanswer = 'open'\nshare = 3",
                "rule 2: share 3",
            ),
            ("about = 'x'\n[[rule]]\nanswer = 'open'\naddresses = '300.1.1.1'", "300.1.1.1"),
            ("about = 'x'\n[[rule]]\nanswer = 'open'\naddresses = 'host.example'", "host.example"),
            ("about = 'x'\n[[rule]]\nanswer = 'open'\nports = '70000'", "70000"),
            ("about = 'x'\n[[rule]]\nanswer = 'open'\nquote = 8", "quote"),
        ] {
            let error = text.parse::<Scenario>().expect_err(text).to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }
}
