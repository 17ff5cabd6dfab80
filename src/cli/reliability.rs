//! Options of what a scan promises: that it can go on, that it says what it missed, that it spares what it probes. No I/O.

use std::time::Duration;

use clap::Args;

use crate::heavy::Limits;
use crate::order::Shard;
use crate::pace::Rate;

/// How a scan survives, and what it holds back.
#[derive(Debug, Clone, Args)]
pub struct Reliability {
    /// Where the checkpoint stands while the scan is not complete; none for no checkpoint [default: beside the first
    /// output that is a file, FILE.swath]
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub checkpoint: Option<String>,

    /// Probe this share of the targets a second time to measure loss: 1/64, or 0 for none [default: 1/64 in plans of more
    /// than 10,000 targets and one pass]
    #[arg(long, value_name = "1/N", value_parser = share, help_heading = HEADING)]
    pub control_share: Option<u32>,

    /// Probes a second for each IPv4 /24 (IPv6: /48) at most [default: as the rate]
    #[arg(long = "max-per-24", value_name = "PPS", value_parser = capped, help_heading = HEADING)]
    pub max_per_24: Option<u64>,

    /// How long to wait when the network changes (link down, address gone), in seconds, before the scan ends with its
    /// checkpoint
    #[arg(long, value_name = "SECONDS", value_parser = super::args::seconds, default_value = "60", help_heading = HEADING)]
    pub net_timeout: Duration,

    /// Open ports of one host in the results at most; what is held back is counted and named. 0 for all
    #[arg(long, value_name = "N", default_value_t = Limits::DEFAULT.host, help_heading = HEADING)]
    pub max_results_per_host: u32,

    /// Open ports of one IPv4 /24 (IPv6: /64) in the results at most; 0 for all
    #[arg(long = "max-results-per-24", value_name = "N", default_value_t = Limits::DEFAULT.prefix, help_heading = HEADING)]
    pub max_results_per_24: u32,
}

impl Reliability {
    /// Limits of the results.
    pub fn limits(&self) -> Limits {
        Limits { host: self.max_results_per_host, prefix: self.max_results_per_24 }
    }

    /// One of how many targets is probed a second time, in a plan of so many targets and passes.
    pub fn control_one_in(&self, targets: u64, passes: u8) -> Option<u32> {
        match self.control_share {
            Some(0) => None,
            Some(share) => Some(share),
            None => (passes == 1 && CONTROLLED_FROM < targets).then_some(DEFAULT_SHARE),
        }
    }
}

/// Reads `1/64` or `0`.
fn share(text: &str) -> Result<u32, String> {
    let one_in = match text.split_once('/') {
        Some(("1", every)) => every.parse().ok().filter(|every| (1..=MOST_SHARE).contains(every)),
        None if text == "0" => Some(0),
        _ => None,
    };
    one_in.ok_or_else(|| {
        format!("'{text}' is no share; write 1/64 for one of 64 targets (1/{MOST_SHARE} at least), or 0")
    })
}

/// Reads a rate that is a limit, in probes per 1000 seconds.
fn capped(text: &str) -> Result<u64, String> {
    match text.parse()? {
        Rate::MilliFrames(milli) => Ok(milli),
        Rate::Max => Err("max is no cap; leave the option out".into()),
    }
}

/// Shard `auto/count`: the environment of the job says which. Kubernetes counts from 0 (`JOB_COMPLETION_INDEX`), Slurm
/// from `SLURM_ARRAY_TASK_MIN` in steps of `SLURM_ARRAY_TASK_STEP`.
///
/// # Errors
/// A sentence that names the variables.
pub(super) fn shard_of_job(count: u32, variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| match variable(name) {
        None => Ok(None),
        Some(text) => text
            .trim()
            .parse::<u32>()
            .map(Some)
            .map_err(|_| format!("{name} is '{text}', which is no number")),
    };
    let (name, index) = match number(KUBERNETES)? {
        Some(index) => (KUBERNETES, index),
        None => {
            let Some(task) = number(SLURM)? else {
                return Err(format!(
                    "shard auto/{count} needs {KUBERNETES} (Kubernetes indexed jobs) or {SLURM} (Slurm arrays); neither is set: write --shard 2/{count}"
                ));
            };
            let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let offset = task.checked_sub(first).filter(|offset| offset.is_multiple_of(step));
            let offset = offset.ok_or_else(|| {
                format!("{SLURM} is {task}, which is no step of {step} from SLURM_ARRAY_TASK_MIN, {first}")
            })?;
            (SLURM, offset / planted!(41, 1, step))
        }
    };
    if count <= index {
        return Err(format!(
            "{name} makes this shard {} of {count}: start {count} tasks, or write auto/N for their number",
            u64::from(index) + 1
        ));
    }
    Shard::new(index + 1, count)
}

const KUBERNETES: &str = "JOB_COMPLETION_INDEX";
const SLURM: &str = "SLURM_ARRAY_TASK_ID";
const HEADING: &str = "Going on, and holding back";
/// Plans of more targets have a control sample unless the user says otherwise.
const CONTROLLED_FROM: u64 = 10_000;
const DEFAULT_SHARE: u32 = 64;
const MOST_SHARE: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_caps_are_read_or_refused() {
        assert_eq!([share("1/64"), share("1/1"), share("0")], [Ok(64), Ok(1), Ok(0)]);
        for bad in ["", "64", "2/64", "1/0", "1/x", "1/9999999"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(capped("0.5"), Ok(500));
        assert!(capped("max").is_err() && capped("x").is_err());
    }

    fn job(count: u32, variables: &[(&str, &str)]) -> Result<(u32, u32), String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        shard_of_job(count, variable).map(|shard| (shard.index(), shard.count()))
    }

    #[test]
    fn the_environment_of_a_job_says_which_shard_it_is() {
        assert_eq!(job(4, &[("JOB_COMPLETION_INDEX", "0")]), Ok((1, 4)));
        assert_eq!(job(4, &[("JOB_COMPLETION_INDEX", "3")]), Ok((4, 4)));
        assert_eq!(job(4, &[("SLURM_ARRAY_TASK_ID", "3")]), Ok((4, 4)));
        assert_eq!(job(4, &[("SLURM_ARRAY_TASK_ID", "4"), ("SLURM_ARRAY_TASK_MIN", "1")]), Ok((4, 4)));
        let stepped =
            [("SLURM_ARRAY_TASK_ID", "11"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_STEP", "5")];
        assert_eq!(job(3, &stepped), Ok((3, 3)));
    }

    #[test]
    fn an_environment_that_says_nothing_or_too_much_is_refused_by_its_variables() {
        let error = job(4, &[]).expect_err("not set");
        assert!(error.contains("JOB_COMPLETION_INDEX") && error.contains("SLURM_ARRAY_TASK_ID"), "{error}");
        for variables in [
            [("JOB_COMPLETION_INDEX", "4"), ("", "")],
            [("JOB_COMPLETION_INDEX", "one"), ("", "")],
            [("SLURM_ARRAY_TASK_ID", "0"), ("SLURM_ARRAY_TASK_MIN", "1")],
            [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "1")],
        ] {
            let error = job(4, &variables).expect_err("refused");
            assert!(error.contains(variables[0].0), "{error}");
        }
    }
}
