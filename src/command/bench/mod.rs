//! `swath bench`: what this machine can do. One file for each subject.
//!
//! Every measurement is bounded: rounds x seconds for each row, both capped by the command line.

mod generate;
mod receive;
mod transmit;
mod write;

use serde::Serialize;

use super::Exit;
use crate::cli::{BenchArgs, Subject};

/// Runs the command.
pub fn run(args: &BenchArgs) -> Exit {
    match &args.subject {
        Subject::Generate(length) => generate::run(*length),
        Subject::Write(args) => write::run(args),
        Subject::Tx(args) => transmit::run(args),
        Subject::Rx(args) => receive::run(args),
    }
}

fn json(report: &impl Serialize) -> String {
    serde_json::to_string_pretty(report).map_or_else(|error| error.to_string(), |text| text + "\n")
}

/// The median, the lowest and the highest of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// The spread of at least one number; of two in the middle, the lower is the median.
    fn of(mut numbers: Vec<f64>) -> Spread {
        numbers.sort_by(f64::total_cmp);
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
        let last = numbers.len().saturating_sub(1);
        Spread { median: at(last / 2), min: at(0), max: at(last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_does_not_depend_on_the_order_of_the_rounds() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0]), Spread { median: 1.0, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(vec![5.0]), Spread { median: 5.0, min: 5.0, max: 5.0 });
    }
}
