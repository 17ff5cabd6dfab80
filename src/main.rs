//! argv to command to exit code: the only process exit.

fn main() {}
