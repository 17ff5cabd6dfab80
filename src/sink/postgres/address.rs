//! The address of a PostgreSQL server, and the password for it: as libpq finds them, but never from the command line.
//!
//! Host, port, user and database come from the address, then from `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, then from
//! the service (`?service=NAME` or `PGSERVICE`) in `PGSERVICEFILE` or `~/.pg_service.conf`. The password comes from
//! `PGPASSWORD`, the service, or `PGPASSFILE` or `~/.pgpass`.
//!
//! Invariant: what [`Address::shown`] holds carries no password; whoever prints an address prints that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use postgres::Config;
use postgres::config::Host;

use crate::sink::SinkError;

/// Where a server is, and how to show it.
pub(super) struct Address {
    config: Config,
    service: Option<String>,
    pub(super) schema: String,
    /// Where spools are made; `None` for the working directory.
    pub(super) spool: Option<PathBuf>,
    /// The address as given, without a password.
    pub(super) shown: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// A refusal for what is no address, and for a password in it.
    pub(super) fn parse(text: &str) -> Result<Address, SinkError> {
        let shown = crate::sink::without_password(text);
        let refuse = |cause: String| SinkError::refused(&shown, cause);
        if shown != text {
            return Err(refuse(
                "a password in the command line can be read by every user of this machine; put it in PGPASSWORD, \
                 ~/.pgpass or a service file"
                    .into(),
            ));
        }
        let (server, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut schema, mut spool, mut service, mut rest) = ("swath".to_owned(), None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("schema", name)) => schema = name.to_owned(),
                Some(("spool", directory)) => spool = Some(PathBuf::from(unescaped(directory))),
                Some(("service", name)) => service = Some(name.to_owned()),
                Some(("sslmode", mode)) => unencrypted(mode).map_err(refuse)?,
                _ => rest.push(pair),
            }
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if schema.is_empty()
            || 40 < schema.len()
            || !schema.bytes().all(is_name)
            || schema.as_bytes()[0].is_ascii_digit()
        {
            return Err(refuse(
                "a schema is named by at most 40 lower-case letters, digits and underscores".into(),
            ));
        }
        let separator = if rest.is_empty() { "" } else { "?" };
        let address = format!("{server}{separator}{}", rest.join("&"));
        let config: Config = address.parse().map_err(|error: postgres::Error| refuse(super::told(&error)))?;
        Ok(Address { config, service, schema, spool, shown })
    }

    /// Everything a connection needs, as the environment and its files stand now.
    pub(super) fn config(&self) -> Result<Config, SinkError> {
        let refuse = |cause: String| SinkError::refused(&self.shown, cause);
        let mut config = self.config.clone();
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let service = match self.service.clone().or_else(|| environment("PGSERVICE")) {
            Some(name) => service(&name).map_err(refuse)?,
            None => BTreeMap::new(),
        };
        let found = |variable: &str, key: &str| environment(variable).or_else(|| service.get(key).cloned());
        if let Some(mode) = found("PGSSLMODE", "sslmode") {
            unencrypted(&mode).map_err(refuse)?;
        }
        if config.get_hosts().is_empty() {
            match found("PGHOST", "host") {
                Some(host) => config.host(&host),
                None => config
                    .host(SOCKETS.iter().find(|path| fs::metadata(path).is_ok()).unwrap_or(&"localhost")),
            };
        }
        if config.get_ports().is_empty()
            && let Some(port) = found("PGPORT", "port")
        {
            config.port(port.parse().map_err(|_| refuse(format!("'{port}' is no port")))?);
        }
        if config.get_user().is_none()
            && let Some(user) = found("PGUSER", "user")
        {
            config.user(&user);
        }
        if config.get_dbname().is_none()
            && let Some(name) = found("PGDATABASE", "dbname")
        {
            config.dbname(&name);
        }
        let password = environment("PGPASSWORD").or_else(|| service.get("password").cloned());
        if let Some(password) = password.or_else(|| password_file(&config)) {
            config.password(password);
        }
        config.application_name("swath").connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE);
        Ok(config)
    }
}

/// Refuses the modes that ask for an encrypted connection: a plain one instead would be worse than none.
fn unencrypted(mode: &str) -> Result<(), String> {
    match mode {
        "disable" | "allow" | "prefer" => Ok(()),
        _ => Err(format!(
            "sslmode={} asks for TLS, which is not built in; use the local socket (postgres:///DATABASE), or a tunnel \
             (stunnel, ssh -L) and its address",
            mode.escape_debug()
        )),
    }
}

/// The settings of a service.
fn service(name: &str) -> Result<BTreeMap<String, String>, String> {
    let path = std::env::var_os("PGSERVICEFILE").map(PathBuf::from).or_else(|| home(".pg_service.conf"));
    let path = path.ok_or("no home directory to look for .pg_service.conf in")?;
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read the service file: {error}"))?;
    let mut settings = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(section) if settings.is_some() || section != name => {
                if settings.is_some() {
                    break;
                }
            }
            Some(_) => settings = Some(BTreeMap::new()),
            None => {
                if let (Some(settings), Some((key, value))) = (&mut settings, line.split_once('=')) {
                    settings.insert(key.trim().to_owned(), value.trim().to_owned());
                }
            }
        }
    }
    settings.ok_or_else(|| format!("the service file has no service '{}'", name.escape_debug()))
}

/// The password of the first line of the password file that fits. As libpq has it, a file that others can read is not
/// used.
fn password_file(config: &Config) -> Option<String> {
    let path = std::env::var_os("PGPASSFILE").map(PathBuf::from).or_else(|| home(".pgpass"))?;
    let mode = fs::metadata(&path).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        return None;
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432).to_string();
    let user = config.get_user().map_or_else(|| std::env::var("USER").unwrap_or_default(), str::to_owned);
    let database = config.get_dbname().unwrap_or(&user).to_owned();
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| fitting(line, [&host, &port, &database, &user]))
}

/// The password of a line `host:port:database:user:password`, if its first four fields are these or `*`.
fn fitting(line: &str, wanted: [&str; 4]) -> Option<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => fields.last_mut()?.extend(letters.next()),
            ':' if fields.len() < 5 => fields.push(String::new()),
            letter => fields.last_mut()?.push(letter),
        }
    }
    let (password, fields) = fields.split_last().filter(|(_, fields)| fields.len() == 4)?;
    let fits = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
    (fits && !line.starts_with('#')).then(|| password.clone())
}

fn home(name: &str) -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(name))
}

/// A value of a query with its `%XX` read.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let pair = tail.get(..2).filter(|_| byte == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where local servers listen.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that acknowledges nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_password_file_fits_by_field_or_star() {
        let wanted = ["db.example", "5432", "scans", "me"];
        for (line, password) in [
            ("db.example:5432:scans:me:secret", Some("secret")),
            ("*:*:*:*:a\\:b\\\\c", Some("a:b\\c")),
            ("*:*:*:me:with:colons", Some("with:colons")),
            ("other:5432:scans:me:secret", None),
            ("#*:*:*:*:secret", None),
            ("*:*:*:*", None),
            ("", None),
        ] {
            assert_eq!(fitting(line, wanted).as_deref(), password, "{line}");
        }
    }

    #[test]
    fn an_address_is_taken_apart_and_a_password_in_it_refused() {
        let address =
            Address::parse("postgres://me@db.example:5433/scans?schema=lab&spool=/var/a%20b&sslmode=disable");
        let address = address.expect("an address");
        assert_eq!((address.schema.as_str(), address.spool), ("lab", Some(PathBuf::from("/var/a b"))));
        assert_eq!(address.config.get_dbname(), Some("scans"));
        for bad in [
            "postgres://me:secret@db/scans",
            "postgres://db/scans?password=secret",
            "postgres://db/scans?schema=a;b",
            "postgres://db/scans?nonsense=1",
            "postgres://db:port/scans",
        ] {
            let error = Address::parse(bad).map(|_| ()).expect_err(bad).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
