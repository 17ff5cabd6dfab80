//! argv to command to exit code: the only process exit.

use std::io::Write;
use std::process::ExitCode;

use swath::cli::{self, Request};
use swath::command::{self, Exit};

fn main() -> ExitCode {
    let exit = match cli::parse(std::env::args_os()) {
        Ok(Request::Scan(args)) if args.audit.audit.is_some() => command::audit::run(&args),
        Ok(Request::Scan(args)) => command::scan::run(&args),
        Ok(Request::Plan(args)) => command::plan::run(&args),
        Ok(Request::Echo(args)) => command::echo::run(&args),
        Ok(Request::Convert(args)) => command::convert::run(&args),
        Ok(Request::Resume(args)) => command::resume::run(&args),
        Ok(Request::Merge(args)) => command::merge::run(&args),
        Ok(Request::Bench(args)) => command::bench::run(&args),
        Ok(Request::Replay(args)) => command::replay::run(&args),
        #[cfg(feature = "columnar")]
        Ok(Request::Compact(args)) => command::compact::run(&args),
        #[cfg(not(feature = "columnar"))]
        Ok(Request::Compact(_)) => {
            command::complain("swath: this build writes no columns (cargo feature columnar)\n");
            Exit::Usage
        }
        Ok(Request::Diff(args)) => command::diff::run(&args),
        Ok(Request::Doctor(args)) => command::doctor::run(&args),
        Ok(Request::Print(text)) => {
            // A reader that left (`swath --help | head`) has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(text) => {
            command::complain(&text);
            Exit::Usage
        }
    };
    ExitCode::from(exit.code())
}
