//! Options of where results go and in whose format. Shared by scans and `swath convert`. No I/O but that of the sinks it
//! names.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::select::Expression;
use crate::sink::rotate::{self, Rotation};
use crate::sink::{self, Existing, Place, Sink, SinkError, SinkKind, parse_place, sink_named};

/// In whose format, and in how many parts.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Results of other tools, and in parts")]
pub struct Outputs {
    /// Write in the shapes of another tool: masscan for -oX and -oG, zmap and naabu for -o
    #[arg(long, value_name = "TOOL", value_enum)]
    pub compat: Option<Compat>,

    /// masscan's and nmap's -oL -oJ -oD -oG -oX -oB -oU -oH -oN -oA, as LETTER:FILE
    #[arg(long = "peer-output", value_name = "LETTER:FILE", hide = true)]
    pub peer: Vec<String>,

    /// masscan's name of a format, for --output-filename
    #[arg(long, value_name = "NAME", hide = true)]
    pub output_format: Option<String>,

    /// masscan's way to name the output
    #[arg(long, value_name = "FILE", hide = true)]
    pub output_filename: Option<String>,

    /// zmap's fields, comma-separated, or * for all (with --compat zmap)
    #[arg(long, value_name = "FIELDS")]
    pub output_fields: Option<String>,

    /// zmap's format: csv or json (with --compat zmap)
    #[arg(long, value_name = "NAME")]
    pub output_module: Option<String>,

    /// No header line in zmap's CSV
    #[arg(long)]
    pub no_header_row: bool,

    /// Say in lines of text why a port is what it is; every other format that has room does so anyway
    #[arg(long)]
    pub reason: bool,

    /// File that says who made a network interface, for MAC addresses in text, NDJSON and nmap's XML: the IEEE's oui.txt, or lines '286FB9 Nokia' [default: Debian's ieee-data, where it is installed]
    #[arg(long, value_name = "FILE")]
    pub oui: Option<PathBuf>,

    /// Write only results for which this holds: 'ttl > 64 and ip = 192.0.2.0/24'; zmap's names are known, too
    #[arg(long, value_name = "EXPRESSION", value_parser = Expression::parse)]
    pub output_filter: Option<Expression>,

    /// Write files in parts: 1h, 1GB, 10M-rows; repeat for several rules
    #[arg(long, value_name = "RULE")]
    pub rotate: Vec<Rotation>,

    /// Move finished parts to this directory
    #[arg(long, value_name = "DIRECTORY")]
    pub rotate_dir: Option<PathBuf>,

    /// Begin parts so much later than at the full hour or day: 10m, 1h
    #[arg(long, value_name = "TIME")]
    pub rotate_offset: Option<Rotation>,

    /// As --rotate with a size
    #[arg(long, value_name = "SIZE")]
    pub rotate_size: Option<Rotation>,
}

/// The tools whose shapes can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compat {
    /// nmap: what `-oX` and `-oG` mean without this option.
    Nmap,
    /// masscan: `-oX` and `-oG` in masscan's shapes.
    Masscan,
    /// zmap: `-o FILE` is its CSV, or with `--output-module json` its JSON.
    Zmap,
    /// naabu: `-o FILE` is its JSON lines.
    Naabu,
}

/// Where results go: in the user's words, of which kind, and the place.
pub type Named = (String, &'static SinkKind, Place);

impl Outputs {
    /// Reads the places of `-o` and of the other tools' options. Nothing is created.
    ///
    /// # Errors
    /// For a kind that does not exist, and options that do not go together.
    pub fn places(&self, output: &[String], existing: Existing) -> Result<Vec<Named>, SinkError> {
        let mut places = Vec::new();
        for argument in output {
            let (kind, place) = self.named(argument, existing)?;
            places.push((argument.clone(), kind, place));
        }
        for peer in &self.peer {
            let (letter, path) = peer.split_once(':').unwrap_or((peer, ""));
            self.of_letter(letter, path, existing, &mut places)?;
        }
        if let Some(path) = &self.output_filename {
            let format = self.output_format.as_deref().unwrap_or("xml");
            let kind = of_format(format).ok_or_else(|| {
                let names: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
                refused(format, format!("--output-format has no such name; there are {}", names.join(", ")))
            })?;
            places.push(self.place(kind, path, existing)?);
        } else if let Some(format) = &self.output_format {
            return Err(refused(format, "--output-format needs --output-filename"));
        }
        let zmap = |(_, kind, _): &Named| kind.name.starts_with("zmap-");
        if (self.output_fields.is_some() || self.no_header_row) && !places.iter().any(zmap) {
            return Err(refused(
                "--output-fields",
                "only zmap's formats have fields to choose; give --compat zmap",
            ));
        }
        // A file that cannot be used is refused before the first packet.
        sink::Vendors::of(self.oui.as_deref())?;
        for (_, _, place) in &mut places {
            place.columns.clone_from(&self.output_fields);
            place.headless = self.no_header_row;
            place.makers.clone_from(&self.oui);
            place.reasons = self.reason;
        }
        Ok(places)
    }

    /// Whether an option of another tool names a place.
    pub fn names_some(&self) -> bool {
        !self.peer.is_empty() || self.output_filename.is_some()
    }

    /// What `-o ARGUMENT` means: a prefix beats everything, then comes the tool, then the suffix.
    fn named(&self, argument: &str, existing: Existing) -> Result<(&'static SinkKind, Place), SinkError> {
        let prefixed = argument.split_once(':').is_some_and(|(name, _)| sink_named(name).is_some());
        let module = self.output_module.as_deref();
        let kind = match (self.compat, module) {
            _ if prefixed => None,
            (Some(Compat::Zmap), None | Some("csv" | "default")) => Some("zmap-csv"),
            (Some(Compat::Zmap), Some("json")) => Some("zmap-json"),
            (Some(Compat::Zmap), Some(other)) => {
                return Err(refused(other, "there is no such output module; there are csv and json"));
            }
            (Some(Compat::Naabu), _) => Some("naabu"),
            _ => None,
        };
        match kind {
            Some(kind) => parse_place(&format!("{kind}:{argument}"), existing),
            None => parse_place(argument, existing),
        }
    }

    /// What a letter behind `-o` means.
    fn of_letter(
        &self,
        letter: &str,
        path: &str,
        existing: Existing,
        places: &mut Vec<Named>,
    ) -> Result<(), SinkError> {
        if letter == "A" {
            for (kind, suffix) in ALL_OF_NMAP {
                let path = if path == "-" { path.to_owned() } else { format!("{path}{suffix}") };
                places.push(self.place(kind, &path, existing)?);
            }
            return Ok(());
        }
        let masscan = self.compat == Some(Compat::Masscan);
        let known = LETTERS.iter().find(|(known, _, _)| *known == letter);
        let (_, usual, of_masscan) =
            known.ok_or_else(|| refused(letter, "there is no such output option"))?;
        places.push(self.place(if masscan { of_masscan } else { usual }, path, existing)?);
        Ok(())
    }

    fn place(&self, kind: &str, path: &str, existing: Existing) -> Result<Named, SinkError> {
        let argument = format!("{kind}:{path}");
        let (kind, place) = parse_place(&argument, existing)?;
        Ok((path.to_owned(), kind, place))
    }

    /// Opens a sink, in parts if the user wants parts.
    ///
    /// # Errors
    /// The sink's.
    pub fn open(&self, kind: &'static SinkKind, place: &Place) -> Result<Box<dyn Sink>, SinkError> {
        let rule = self.rotation();
        let is_file = !place.stdout && place.path != Path::new("");
        if rule.is_some() && is_file { rotate::open(kind, place, &rule) } else { sink::open(kind, place) }
    }

    /// All rules in one.
    fn rotation(&self) -> Rotation {
        let mut rule = Rotation { directory: self.rotate_dir.clone(), ..Rotation::default() };
        for given in self.rotate.iter().chain(&self.rotate_size) {
            rule.every_s = given.every_s.or(rule.every_s);
            rule.bytes = given.bytes.or(rule.bytes);
            rule.rows = given.rows.or(rule.rows);
        }
        rule.offset_s = self.rotate_offset.as_ref().and_then(|offset| offset.every_s).unwrap_or(0);
        rule
    }
}

fn of_format(name: &str) -> Option<&'static str> {
    FORMATS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
}

fn refused(object: &str, cause: impl Into<String>) -> SinkError {
    SinkError {
        operation: "write as",
        object: object.escape_debug().to_string(),
        cause: cause.into(),
        kind: crate::sink::SinkErrorKind::Refused,
    }
}

/// The letters behind `-o`: what they mean, and what they mean with `--compat masscan`.
const LETTERS: &[(&str, &str, &str)] = &[
    ("L", "masscan-list", "masscan-list"),
    ("J", "masscan-json", "masscan-json"),
    ("D", "masscan-ndjson", "masscan-ndjson"),
    ("G", "nmap-grepable", "masscan-grepable"),
    ("X", "nmap-xml", "masscan-xml"),
    ("B", "masscan-binary", "masscan-binary"),
    ("U", "unicornscan", "unicornscan"),
    ("H", "hosts", "hosts"),
    ("N", "text", "text"),
];

/// What nmap's `-oA` writes.
const ALL_OF_NMAP: [(&str, &str); 3] = [("text", ".nmap"), ("nmap-xml", ".xml"), ("nmap-grepable", ".gnmap")];

/// The names of masscan's `--output-format`.
const FORMATS: &[(&str, &str)] = &[
    ("list", "masscan-list"),
    ("unicornscan", "unicornscan"),
    ("xml", "masscan-xml"),
    ("binary", "masscan-binary"),
    ("grepable", "masscan-grepable"),
    ("greppable", "masscan-grepable"),
    ("json", "masscan-json"),
    ("ndjson", "masscan-ndjson"),
    ("hostonly", "hosts"),
    ("interactive", "text"),
    ("none", "none"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(outputs: &Outputs, output: &[&str]) -> Vec<(&'static str, String)> {
        let output: Vec<String> = output.iter().map(|word| (*word).to_owned()).collect();
        let places = outputs.places(&output, Existing::Refuse).expect("places");
        places.into_iter().map(|(_, kind, place)| (kind.name, place.path.display().to_string())).collect()
    }

    #[test]
    fn letters_mean_what_the_tool_means_by_them() {
        let peer =
            ["L:a", "J:b", "D:c", "G:d", "X:-", "B:e", "U:f", "H:g", "N:h", "A:all"].map(str::to_owned);
        let outputs = Outputs { peer: peer.to_vec(), ..Outputs::default() };
        let names: Vec<&str> = kinds(&outputs, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names[..5],
            ["masscan-list", "masscan-json", "masscan-ndjson", "nmap-grepable", "nmap-xml"]
        );
        assert_eq!(names[9..], ["text", "nmap-xml", "nmap-grepable"]);
        let outputs = Outputs { compat: Some(Compat::Masscan), ..outputs };
        let names: Vec<&str> = kinds(&outputs, &[]).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names[3..5], ["masscan-grepable", "masscan-xml"]);
        for (letter, usual, of_masscan) in LETTERS {
            assert!(sink_named(usual).is_some() && sink_named(of_masscan).is_some(), "{letter}");
        }
        assert!(FORMATS.iter().all(|(_, kind)| sink_named(kind).is_some()));
    }

    #[test]
    fn a_tool_names_the_kind_and_a_prefix_beats_it() {
        let zmap = Outputs { compat: Some(Compat::Zmap), ..Outputs::default() };
        assert_eq!(
            kinds(&zmap, &["a.csv", "-", "sqlite:b"])[..2],
            [("zmap-csv", "a.csv".into()), ("zmap-csv", "-".into())]
        );
        assert_eq!(kinds(&zmap, &["sqlite:b"]), [("sqlite", "b".into())]);
        let json = Outputs { output_module: Some("json".into()), ..zmap };
        assert_eq!(kinds(&json, &["a.csv"]), [("zmap-json", "a.csv".into())]);
        let outputs = Outputs { output_fields: Some("saddr".into()), ..Outputs::default() };
        assert!(outputs.places(&["a.csv".into()], Existing::Refuse).is_err());
        let outputs = Outputs { output_filename: Some("a".into()), ..Outputs::default() };
        assert_eq!(kinds(&outputs, &[]), [("masscan-xml", "a".into())]);
    }
}
