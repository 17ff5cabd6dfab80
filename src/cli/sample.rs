//! The options that draw samples of large IPv6 blocks.

use clap::Args;

use super::build::BuildError;
use crate::target::Ranges;
use crate::target::sample::{Pattern, Sample};

/// Samples of large IPv6 blocks.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What to scan")]
pub struct SampleArgs {
    /// Of IPv6 blocks scan a sample in each prefix of this length: --per-prefix /64 --sample 4
    #[arg(long, value_name = "/LENGTH", value_parser = prefix)]
    pub per_prefix: Option<u8>,

    /// How many addresses in each prefix, of each pattern [default: 1]
    #[arg(long, value_name = "N", requires = "per_prefix", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub sample: Option<u32>,

    /// Where in each prefix: low (::1, ::2, ...), eui64, random; the last two are drawn from --seed [default: low]
    #[arg(long, value_name = "PATTERNS", requires = "per_prefix", value_delimiter = ',', value_parser = pattern)]
    pub sample_pattern: Vec<Pattern>,
}

/// What is drawn from addresses; `None` when nothing was asked for.
///
/// # Errors
/// [`BuildError::Usage`] when too many would be drawn, or at random without a seed.
pub(super) fn draw(
    args: &SampleArgs,
    seed: Option<u64>,
    addresses: &Ranges<u128>,
) -> Result<Option<Ranges<u128>>, BuildError> {
    let Some(prefix) = args.per_prefix else { return Ok(None) };
    let patterns =
        if args.sample_pattern.is_empty() { vec![Pattern::LowByte] } else { args.sample_pattern.clone() };
    let seed = match seed {
        Some(seed) => seed,
        None if patterns.iter().any(|pattern| pattern.is_random()) => {
            return Err(BuildError::Usage(
                "random samples are drawn from the seed; give --seed N, so that the other shards and a resumed scan draw the same".into(),
            ));
        }
        None => 0,
    };
    let sample = Sample { prefix, count: args.sample.unwrap_or(1), patterns, seed };
    let ranges: Vec<(u128, u128)> = addresses.iter().collect();
    let drawn = sample.of(&ranges).map_err(|text| BuildError::Usage(format!("--per-prefix: {text}")))?;
    Ok(Some(Ranges::from_unsorted(drawn)))
}

fn prefix(text: &str) -> Result<u8, String> {
    let length = text.trim_start_matches('/').parse::<u8>().ok().filter(|length| (1..=127).contains(length));
    length.ok_or_else(|| format!("'{text}' is no length of a prefix; write /64"))
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let known = Pattern::ALL.into_iter().find(|(_, name)| text.eq_ignore_ascii_case(name));
    known.map(|(pattern, _)| pattern).ok_or_else(|| {
        let names = Pattern::ALL.map(|(_, name)| name).join(", ");
        format!("'{text}' is no pattern; there are {names}")
    })
}
