//! The import law of docs/architecture.md, and what every source file owes its reader. Each finding names file and
//! line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a module and the modules it may name. What a module may import from its own folder is its
/// own business. Layers, lowest first; a row may only name rows of its own layer or above it in this list.
const LAW: &[(&str, &[&str])] = &[
    // L0
    ("planted", &[]),
    ("sys", &[]),
    ("target", &["sys"]),
    ("wire", &[]),
    ("queue", &[]),
    ("store", &[]),
    ("text", &[]),
    ("event", &["target"]),
    ("stats", &["event", "target"]),
    // L1
    ("batch", &["target", "wire"]),
    ("checkpoint", &["sys"]),
    ("gate", &["wire"]),
    ("heavy", &[]),
    ("restraint", &["gate"]),
    ("host", &["sys"]),
    ("order", &["target", "batch", "sys"]),
    ("cookie", &["target", "batch", "sys"]),
    ("pace", &[]),
    ("path", &[]),
    ("pulse", &[]),
    ("world", &["target", "wire"]),
    ("dedup", &["event", "sys"]),
    ("runs", &["event"]),
    ("sorted", &["event", "store"]),
    ("spool", &["event", "store"]),
    ("columnar", &["event", "runs", "store", "target"]),
    ("select", &["event", "target", "text"]),
    ("neighbour", &["batch", "target", "wire"]),
    ("closing", &["queue"]),
    // L2
    ("link", &["sys", "wire", "batch", "gate", "world"]),
    ("probe", &["wire", "target", "cookie", "event", "batch"]),
    ("source", &["columnar", "event", "spool", "target", "text"]),
    ("sink", &["columnar", "event", "runs", "select", "sorted", "source", "spool", "store", "target"]),
    // L3
    ("generate", &["batch", "closing", "cookie", "order", "sys", "target"]),
    (
        "tx",
        &[
            "batch",
            "checkpoint",
            "closing",
            "event",
            "generate",
            "link",
            "neighbour",
            "order",
            "pace",
            "path",
            "queue",
            "restraint",
            "stats",
            "target",
            "wire",
        ],
    ),
    ("rx", &["closing", "dedup", "event", "link", "probe", "pulse", "queue", "stats", "target", "wire"]),
    ("writer", &["event", "heavy", "queue", "select", "sink", "spool", "stats", "target"]),
    // L4
    (
        "plan",
        &[
            "batch", "closing", "cookie", "gate", "heavy", "link", "order", "pace", "path", "probe",
            "target", "wire",
        ],
    ),
    (
        "scan",
        &[
            "batch",
            "checkpoint",
            "closing",
            "cookie",
            "dedup",
            "event",
            "gate",
            "generate",
            "heavy",
            "link",
            "neighbour",
            "order",
            "pace",
            "plan",
            "probe",
            "queue",
            "restraint",
            "rx",
            "sink",
            "stats",
            "sys",
            "target",
            "text",
            "tx",
            "wire",
            "writer",
        ],
    ),
    // L5
    (
        "cli",
        &[
            "batch",
            "checkpoint",
            "closing",
            "cookie",
            "dedup",
            "event",
            "heavy",
            "host",
            "link",
            "order",
            "pace",
            "path",
            "plan",
            "probe",
            "runs",
            "select",
            "sink",
            "source",
            "target",
            "text",
            "wire",
        ],
    ),
    (
        "command",
        &[
            "batch",
            "checkpoint",
            "cli",
            "closing",
            "columnar",
            "cookie",
            "dedup",
            "event",
            "gate",
            "generate",
            "heavy",
            "host",
            "link",
            "order",
            "path",
            "plan",
            "probe",
            "queue",
            "runs",
            "rx",
            "scan",
            "select",
            "sink",
            "sorted",
            "source",
            "spool",
            "store",
            "stats",
            "sys",
            "target",
            "text",
            "wire",
            "writer",
        ],
    ),
    ("main", &["cli", "command"]),
    ("lib", &[]),
];

/// Modules that may read a clock, the environment, a file or a socket, of the layers below the loops.
const MAY_TOUCH_THE_WORLD: &[&str] = &[
    "planted",
    "sys",
    "checkpoint",
    "columnar",
    "host",
    "link",
    "planted",
    "runs",
    "sink",
    "sorted",
    "source",
    "spool",
    "store",
    "sys",
];

#[test]
fn imports_point_down_the_layers() {
    let mut findings = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        let Some((_, allowed)) = LAW.iter().find(|(name, _)| *name == module) else {
            findings.push(format!("{}: module '{module}' has no row in the law", file.display()));
            continue;
        };
        for (number, line) in code_lines(&file) {
            for named in named_modules(&line) {
                if named != module
                    && !allowed.contains(&named.as_str())
                    && LAW.iter().any(|(name, _)| *name == named)
                {
                    findings.push(format!("{}:{number}: {module} may not import {named}", file.display()));
                }
            }
        }
    }
    report(&findings);
}

#[test]
fn the_law_itself_points_down() {
    for (index, (module, allowed)) in LAW.iter().enumerate() {
        for name in *allowed {
            let place = LAW.iter().position(|(other, _)| other == name);
            assert!(place.is_some_and(|place| place < index), "{module} names {name}, which is not below it");
        }
    }
}

#[test]
fn probe_and_link_and_rx_and_sink_never_meet() {
    for (one, other) in
        [("probe", "link"), ("link", "probe"), ("rx", "sink"), ("sink", "rx"), ("sink", "wire")]
    {
        let (_, allowed) = LAW.iter().find(|(name, _)| *name == one).expect("in the law");
        assert!(!allowed.contains(&other), "{one} and {other} meet in plain data, not in each other");
    }
}

#[test]
fn unsafe_stands_in_sys_only() {
    let mut findings = Vec::new();
    for file in sources().into_iter().filter(|file| module_of(file) != "sys") {
        for (number, line) in code_lines(&file) {
            if line
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .any(|word| word == "unsafe")
            {
                findings.push(format!("{}:{number}: unsafe outside of src/sys", file.display()));
            }
        }
    }
    report(&findings);
}

#[test]
fn lower_layers_read_no_clock_file_socket_or_environment() {
    let lower: Vec<&str> = LAW.iter().map(|(name, _)| *name).take_while(|name| *name != "plan").collect();
    let forbidden = [
        "Instant::now",
        "SystemTime",
        "std::fs",
        "std::env",
        "std::net::Tcp",
        "std::net::Udp",
        "thread::sleep",
    ];
    let mut findings = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        if !lower.contains(&module.as_str()) || MAY_TOUCH_THE_WORLD.contains(&module.as_str()) {
            continue;
        }
        for (number, line) in code_lines(&file) {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {module} names {word}", file.display()));
            }
        }
    }
    report(&findings);
}

#[test]
fn every_file_opens_by_saying_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|file| !fs::read_to_string(file).expect("readable").starts_with("//!"))
        .map(|file| format!("{}:1: no module documentation", file.display()))
        .collect();
    report(&silent);
}

#[test]
fn files_keep_one_job() {
    let mut findings = Vec::new();
    for file in sources() {
        let text = fs::read_to_string(&file).expect("readable");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(&text).lines().count();
        if 800 < code {
            findings.push(format!(
                "{}: {code} lines before its tests; which second job did it take on?",
                file.display()
            ));
        }
    }
    report(&findings);
}

#[test]
fn every_dependency_is_argued_for() {
    let manifest = fs::read_to_string("Cargo.toml").expect("readable");
    let argued = fs::read_to_string("docs/dependencies.md").expect("readable");
    let mut in_dependencies = false;
    let mut findings = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| in_dependencies) {
            let name = name.trim();
            if !argued.contains(&format!("`{name}`")) {
                findings.push(format!("docs/dependencies.md: no line for {name}"));
            }
        }
    }
    report(&findings);
}

#[test]
fn no_line_speaks_of_one_machine() {
    let words = ["/home/", "/root/", "localhost:5000"];
    let mut findings = Vec::new();
    for file in tracked() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (index, line) in text.lines().enumerate() {
            if file != Path::new("tests/tidy.rs") && words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: a path of one machine", file.display(), index + 1));
            }
        }
    }
    report(&findings);
}

fn report(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(Path::new("src"), &mut |file| {
        if file.extension().is_some_and(|extension| extension == "rs") {
            files.push(file);
        }
    });
    assert!(20 < files.len(), "the test must run from the repository");
    files
}

fn tracked() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "scripts", "docs"] {
        collect(Path::new(folder), &mut |file| files.push(file));
    }
    files
}

fn collect(folder: &Path, take: &mut dyn FnMut(PathBuf)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { collect(&path, take) } else { take(path) }
    }
}

/// The top-level module a file belongs to.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix("src").expect("a source file");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The lines of a file that are code, without comments, strings kept; test modules included: tests obey the law too,
/// except that they may use what they test with (`mod tests` files are skipped).
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).expect("readable");
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]")
            && file.file_name().is_some_and(|name| name != "lib.rs")
        {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        if !code.trim().is_empty() {
            lines.push((index + 1, code.to_owned()));
        }
    }
    if file.ends_with("tests.rs") { Vec::new() } else { lines }
}

/// Modules named as `crate::NAME`, in paths and in `use crate::{a, b}` groups.
fn named_modules(line: &str) -> Vec<String> {
    let mut names = BTreeMap::new();
    for part in line.split("crate::").skip(1).chain(line.split("swath::").skip(1)) {
        let heads: Vec<&str> = match part.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![part],
        };
        for head in heads {
            let name: String =
                head.trim().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            names.insert(name, ());
        }
    }
    names.into_keys().collect()
}
