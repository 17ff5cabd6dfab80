//! `swath ... --echo`: the plan as a configuration file, in masscan's syntax, for `-c FILE`.

use std::io::Write;

use super::{Exit, complain};
use crate::cli::{Args, build};

/// Runs the command.
pub fn run(args: &Args) -> Exit {
    match described(args) {
        Ok(text) => {
            // A reader that left has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(error) => {
            complain(&format!("swath: {error}\n"));
            Exit::Usage
        }
    }
}

/// What has a value of its own; defaults are left out but for those masscan prints.
fn described(args: &Args) -> Result<String, String> {
    let plan = build::plan(args).map_err(|error| error.to_string())?;
    let mut text = format!("# swath {}\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: &dyn std::fmt::Display| text.push_str(&format!("{name} = {value}\n"));
    line("seed", &plan.seed);
    match args.rate.frames_per_second() {
        Some(rate) => line("rate", &rate),
        None => line("rate", &"max"),
    }
    line("shard", &format!("{}/{}", plan.shard.index(), plan.shard.count()));
    if plan.first_step != 0 {
        line("resume-index", &plan.first_step);
    }
    line("passes", &plan.passes);
    line("wait", &args.wait.as_secs_f64());
    line("ttl", &args.ttl);
    if let Some(interface) = &args.interface {
        line("interface", interface);
    }
    if let Some(address) = args.source_ip {
        line("source-ip", &address);
    }
    if let Some(ports) = &args.source_port {
        line("source-port", ports);
    }
    for output in &args.output {
        line("output", output);
    }
    for output in &args.outputs.peer {
        line("peer-output", output);
    }
    if args.append_output {
        line("append-output", &"true");
    }
    text.push_str("\n# TARGET SELECTION (IP, PORTS, EXCLUDES)\n");
    let mut line = |name: &str, value: &dyn std::fmt::Display| text.push_str(&format!("{name} = {value}\n"));
    if !plan.tally.ports.is_empty() {
        line("ports", &plan.tally.ports);
    }
    for block in plan.space.addresses().blocks() {
        let single = block.prefix_len() == block.max_prefix_len();
        if single { line("range", &block.addr()) } else { line("range", &block) }
    }
    Ok(text)
}
