//! The options of audits: questions to services of one's own, beyond whether they are there.

use std::net::IpAddr;

use clap::{Args, ValueEnum};

/// What is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Audit {
    /// Whether FTP servers send data to an address that is not their client's.
    FtpBounce,
}

/// Audits of services.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Audits")]
pub struct AuditArgs {
    /// Ask your own servers: ftp-bounce (would an anonymous user make them connect to somebody else?)
    #[arg(long, value_name = "WHAT", requires = "bounce_to")]
    pub audit: Option<Audit>,

    /// For ftp-bounce: an address of yours that is not the one you connect from; nothing is sent to it
    #[arg(long, value_name = "ADDRESS", requires = "audit")]
    pub bounce_to: Option<IpAddr>,
}
