//! The part of a checkpoint that never changes: what the scan is, in the words of whoever started it; and what is left
//! of a checkpoint once the scan is complete.

use serde::{Deserialize, Serialize};

/// What a scan is: enough to build the same plan again, and to notice when it is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// The version of swath that began it.
    pub version: String,
    /// The identifier of its first run.
    pub scan_uuid: String,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Version of the order.
    pub order: String,
    /// Seed of the order, in decimal.
    pub seed: String,
    /// Which shard, from 1.
    pub shard: u32,
    /// Of how many.
    pub shards: u32,
    /// The ports, normalised.
    pub ports: String,
    /// The command line, program name included.
    pub argv: Vec<String>,
    /// The directory it was given in: relative paths count from there.
    pub directory: String,
    /// What the user had excluded when the plan was made, as blocks.
    pub excluded: Vec<String>,
    /// The files the results go to, those of them that can be synced.
    pub outputs: Vec<String>,
    /// The hosts that a discovery found before the plan was made, as blocks; empty when there was none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

impl Birth {
    pub(super) fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    pub(super) fn from_text(text: &str) -> Result<Birth, String> {
        serde_json::from_str(text).map_err(|error| format!("its text cannot be read: {error}"))
    }
}

/// The note that a complete shard leaves: what `swath merge` must know of outputs that hold no manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closing {
    /// The files the results went to.
    pub outputs: Vec<String>,
    /// The closing manifest, as every sink was given it.
    pub manifest: serde_json::Value,
}
