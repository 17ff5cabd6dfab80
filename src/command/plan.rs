//! `swath plan`: what a scan would do. Needs no privilege, sends nothing.

use std::io::Write;

use super::{Exit, complain};
use crate::batch::Family;
use crate::cli::{Args, build};
use crate::order;
use crate::plan::{Plan, wire_bits};
use crate::sink::Existing;
use crate::text::{duration, grouped, scaled};

/// Runs the command.
pub fn run(args: &Args) -> Exit {
    match checked(args) {
        Ok(plan) => {
            // A reader that left has read enough.
            let _ = std::io::stdout().write_all(describe(&plan, args).as_bytes());
            Exit::Done
        }
        Err(error) => {
            complain(&format!("swath: {error}\n"));
            Exit::Usage
        }
    }
}

/// The plan, if the scan would not be refused for a mistake in the same words. Nothing is opened.
fn checked(args: &Args) -> Result<Plan, String> {
    let plan = build::plan(args).map_err(|error| error.to_string())?;
    build::check(args).map_err(|error| error.to_string())?;
    args.outputs.places(&args.output, Existing::Refuse).map_err(|error| error.to_string())?;
    Ok(plan)
}

/// The whole text.
fn describe(plan: &Plan, args: &Args) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<12}{value}\n"));
    let tally = &plan.tally;
    line("addresses", format!("{} given", grouped(tally.given)));
    for (count, why) in [
        (tally.special, "special-purpose, swept over and not named"),
        (tally.never, "never probed (0/8, multicast, broadcast)"),
        (tally.excluded, "excluded"),
    ] {
        if 0 < count {
            line("", format!("- {} {why}", grouped(count)));
        }
    }
    line("", format!("= {} to scan", grouped(tally.scanned)));
    let ports = if tally.ports.is_empty() { "as the target files say" } else { &tally.ports };
    line("ports", ports.to_owned());
    line("targets", grouped(plan.space.len().into()));
    let shard_targets = plan.shard_targets();
    if plan.shard.count() != 1 {
        let (index, count) = (plan.shard.index(), plan.shard.count());
        line("shard", format!("{index}/{count}: {} targets", grouped(shard_targets.into())));
    }
    let probes: Vec<&str> = plan.probes.iter().map(|probe| probe.name()).collect();
    let probed = plan.probes_planned();
    line("probes", format!("{}, {} frames", probes.join(", "), grouped(probed.into())));
    if let (Some(one_in), Some(sample)) = (plan.control, plan.sample()) {
        let count = grouped(sample.len().into());
        line(
            "control",
            format!("1/{one_in} of the targets a second time, to measure loss: {count} frames of those"),
        );
    }
    let frame = frame_length(plan);
    match args.rate.frames_per_second() {
        Some(rate) => {
            let bits = rate * wire_bits(frame) as f64;
            line("rate", format!("{}pps = {}bit/s on the wire", scaled(rate), scaled(bits)));
            let (gaps, wait) = (plan.gaps(args.pass_gap).as_secs_f64(), args.wait.as_secs_f64());
            let between =
                if gaps == 0.0 { String::new() } else { format!("{} between passes and ", duration(gaps)) };
            line(
                "duration",
                format!(
                    "{} (with {between}{} of waiting)",
                    duration(probed as f64 / rate + gaps + wait),
                    duration(wait)
                ),
            );
        }
        None => line("rate", "as fast as the link can".into()),
    }
    line("bytes", format!("{}B on the wire", scaled(probed as f64 * wire_bits(frame) as f64 / 8.0)));
    line("order", format!("{}, seed {}", order::VERSION, plan.seed));
    line("digest", plan.digest());
    text
}

/// Length of the longest frame of the plan.
pub(super) fn frame_length(plan: &Plan) -> usize {
    let addresses = plan.space.addresses();
    let exists = |family| match family {
        Family::V4 => !addresses.v4.is_empty(),
        Family::V6 => !addresses.v6.is_empty(),
    };
    let templates = plan.example_templates().into_iter().map(|assigned| assigned.template);
    templates
        .filter(|template| exists(template.family()))
        .map(|template| template.frame_length())
        .max()
        .unwrap_or(0)
}
