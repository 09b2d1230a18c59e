//! Where the database is and how it is reached: the setting `STORE_URL`.

use std::{net::IpAddr, str::FromStr, time::Duration};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

/// How long making a TCP connection to one host may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// After how long without an answer the connection is probed, and after how long it counts as broken.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const UNANSWERED_LIMIT: Duration = Duration::from_secs(10);

const EXPECTED: &str = "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
     with reserved characters percent-encoded and, if need be, libpq's parameters such as ?sslmode=verify-full";

/// Whether the connection is encrypted and the server has to prove who it is: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; it need not prove anything.
    Prefer,
    /// Encrypted; the server need not prove anything.
    Require,
    /// Encrypted; the server has a certificate for its name from someone whom the system trusts.
    VerifyFull,
}

/// A database. `Debug` shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) config: Config,
    pub(super) encryption: Encryption,
    needs_token: bool,
}

impl Address {
    /// Reads `postgres://…` or `postgresql://…`: libpq's URL, without `sslmode=allow` and `verify-ca`. Unless it says
    /// otherwise, a host other than this machine must prove who it is.
    ///
    /// # Errors
    /// What is expected. Nothing of the value is repeated: a piece of the password may stand where another part was meant.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (url, mode) = take_sslmode(url);
        let mut config = Config::from_str(&url).map_err(|_| EXPECTED.to_owned())?;
        if config.get_hosts().is_empty() {
            return Err(format!("{EXPECTED}; the host is missing"));
        }
        let local = config.get_hosts().iter().all(is_this_machine);
        let encryption = match mode.as_deref() {
            None if local => Encryption::Prefer,
            None | Some("verify-full") => Encryption::VerifyFull,
            Some("disable") => Encryption::Disable,
            Some("prefer") => Encryption::Prefer,
            Some("require") => Encryption::Require,
            Some(_) => {
                let known = "disable, prefer, require or verify-full";
                return Err(format!("the sslmode must be {known}"));
            }
        };
        let needs_token = !local && config.get_password().is_none();
        if needs_token && encryption != Encryption::VerifyFull {
            return Err(
                "without a password, a token of Entra ID is sent, and only to a server that has proven who it is: \
                 leave sslmode out or say verify-full"
                    .to_owned(),
            );
        }
        config
            .ssl_mode(match encryption {
                Encryption::Disable => SslMode::Disable,
                Encryption::Prefer => SslMode::Prefer,
                Encryption::Require | Encryption::VerifyFull => SslMode::Require,
            })
            .application_name("orderflow")
            .connect_timeout(CONNECT_LIMIT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(UNANSWERED_LIMIT);
        Ok(Self {
            config,
            encryption,
            needs_token,
        })
    }

    /// Whether a token of Entra ID is the password, since the URL has none and the server is not this machine.
    pub fn needs_token(&self) -> bool {
        self.needs_token
    }
}

/// The URL without `sslmode`, and its value: the client library knows some of the modes only.
fn take_sslmode(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.rsplit_once('?') else {
        return (url.to_owned(), None);
    };
    let mut mode = None;
    let mut others = Vec::new();
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            _ => others.push(parameter),
        }
    }
    if others.is_empty() {
        return (base.to_owned(), mode);
    }
    (format!("{base}?{}", others.join("&")), mode)
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let name = name.trim_start_matches('[').trim_end_matches(']');
            name == "localhost" || IpAddr::from_str(name).is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encryption(url: &str) -> Encryption {
        Address::parse(url).unwrap().encryption
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is_unless_told_otherwise() {
        for (url, expected) in [
            (
                "postgres://o:p@db.example.com/orders",
                Encryption::VerifyFull,
            ),
            ("postgresql://o:p@db.example.com", Encryption::VerifyFull),
            (
                "postgres://o:p@db.example.com/orders?sslmode=require",
                Encryption::Require,
            ),
            (
                "postgres://o:p@db/orders?connect_timeout=1&sslmode=prefer",
                Encryption::Prefer,
            ),
            (
                "postgres://o:hun?ter2@db/orders?sslmode=require",
                Encryption::Require,
            ),
            ("postgres://o:p@127.0.0.1:5433/orders", Encryption::Prefer),
            (
                "postgres://o@localhost/orders?sslmode=disable",
                Encryption::Disable,
            ),
            (
                "postgres://o@%2Frun%2Fpostgresql/orders",
                Encryption::Prefer,
            ),
            (
                "postgres://o:p@localhost,db.example.com/orders",
                Encryption::VerifyFull,
            ),
        ] {
            assert_eq!(encryption(url), expected, "{url}");
        }
    }

    #[test]
    fn without_a_password_a_server_elsewhere_gets_a_token_and_must_have_proven_who_it_is() {
        let needs_token = |url| Address::parse(url).unwrap().needs_token();
        assert!(needs_token("postgres://app@db.example.com/orders"));
        assert!(!needs_token("postgres://app:secret@db.example.com/orders"));
        assert!(!needs_token("postgres://app@localhost/orders"));
        let error = Address::parse("postgres://app@db/orders?sslmode=require").unwrap_err();
        assert!(error.contains("verify-full"), "{error}");
    }

    #[test]
    fn the_password_is_never_shown() {
        let shown = format!("{:?}", Address::parse("postgres://o:hunter2@db/orders"));
        assert!(!shown.contains("hunter2"), "{shown}");
        for url in [
            "postgres://o:hunter2@db:port/orders",
            "postgres://o:hunter2@db/orders?hunter2=1",
            "postgres://o:hunter2@db/orders?sslmode=hunter2",
            "postgres://",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert!(!error.contains("ter2"), "{url}: {error}");
        }
    }
}
