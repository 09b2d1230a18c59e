//! The settings: every environment variable that the program reads, in one place.

use std::path::PathBuf;

use url::Url;

use crate::{sales::Catalog, store::postgres};

/// Where settings come from: the environment, or a map in tests.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The port where the handler listens if the host names none.
const DEFAULT_PORT: u16 = 8080;

/// A value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Where the state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`
    Memory,
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…`
    Postgres(Box<postgres::Address>),
}

/// What `orderflow serve` is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `FUNCTIONS_CUSTOMHANDLER_PORT`: where to listen, on 127.0.0.1; 8080 when unset.
    pub port: u16,
    /// `EVENTGRID_TOPIC_ENDPOINT`: the custom topic's endpoint.
    pub topic_endpoint: Url,
    /// `EVENTGRID_TOPIC_KEY`: its access key; Entra ID is used without it.
    pub topic_key: Option<Secret>,
    /// Whether `IDENTITY_ENDPOINT` is set, so that there is a managed identity.
    pub managed_identity: bool,
    /// `STORE_URL`: where the state lives.
    pub store: StoreUrl,
    /// `CATALOG_FILE`: prices, tax rates and opening stock; the development catalog when unset.
    pub catalog: Catalog,
}

/// Settings that are missing or malformed, all of them in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(Vec<String>);

/// The process's environment as a source.
pub fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is where settings are read")]
    std::env::var(name).ok()
}

impl Settings {
    /// Reads the settings. An empty value counts as unset, as in the Azure portal.
    ///
    /// # Errors
    /// Names every setting that is missing or malformed, and what it must be.
    pub fn read(source: Source<'_>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let set = |name: &str| source(name).filter(|value| !value.trim().is_empty());
        let mut take = |name: &str, problem: String| problems.push(format!("{name}: {problem}"));

        let port = set("FUNCTIONS_CUSTOMHANDLER_PORT")
            .map_or(Some(DEFAULT_PORT), |port| port.trim().parse().ok());
        if port.is_none() {
            take(
                "FUNCTIONS_CUSTOMHANDLER_PORT",
                "must be a port number, 0 to 65535".to_owned(),
            );
        }
        let endpoint = topic_endpoint(set("EVENTGRID_TOPIC_ENDPOINT"))
            .map_err(|problem| take("EVENTGRID_TOPIC_ENDPOINT", problem))
            .ok();
        let store = store_url(set("STORE_URL"))
            .map_err(|problem| take("STORE_URL", problem))
            .ok();
        let catalog = catalog(set("CATALOG_FILE").as_deref())
            .map_err(|problem| take("CATALOG_FILE", problem))
            .ok();
        if let Some(provider) = set("PAYMENT_PROVIDER").filter(|provider| provider != "simulated") {
            take(
                "PAYMENT_PROVIDER",
                format!("must be simulated, got {provider:?}"),
            );
        }
        match (port, endpoint, store, catalog) {
            (Some(port), Some(topic_endpoint), Some(store), Some(catalog))
                if problems.is_empty() =>
            {
                Ok(Self {
                    port,
                    topic_endpoint,
                    topic_key: set("EVENTGRID_TOPIC_KEY").map(Secret::new),
                    managed_identity: set("IDENTITY_ENDPOINT").is_some(),
                    store,
                    catalog,
                })
            }
            _ => Err(ConfigError(problems)),
        }
    }
}

fn topic_endpoint(value: Option<String>) -> Result<Url, String> {
    let expected = "must be the topic's endpoint, such as https://NAME.REGION-1.eventgrid.azure.net/api/events";
    let value = value.ok_or_else(|| format!("is not set; {expected}"))?;
    let url = Url::parse(&value).map_err(|error| format!("{expected}: {error}"))?;
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        // A key or token in clear text stays on this machine.
        "http" if loopback => Ok(url),
        "http" => Err("must be https except on this machine (127.0.0.1)".to_owned()),
        scheme => Err(format!("{expected}, got the scheme {scheme}")),
    }
}

fn store_url(value: Option<String>) -> Result<StoreUrl, String> {
    let expected = "must be postgres://…, sqlite:PATH or memory:";
    let value = value.ok_or_else(|| format!("is not set; {expected}"))?;
    if value == "memory:" {
        return Ok(StoreUrl::Memory);
    }
    match value.split_once(':') {
        Some(("sqlite", "")) => Err(format!("{expected}; the path is missing")),
        Some(("sqlite", path)) => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
        Some(("postgres" | "postgresql", _)) => {
            postgres::Address::parse(&value).map(|address| StoreUrl::Postgres(Box::new(address)))
        }
        // The rest of the value may hold a password.
        Some((scheme, _)) => Err(format!("{expected}, got the scheme {scheme:?}")),
        None => Err(expected.to_owned()),
    }
}

fn catalog(path: Option<&str>) -> Result<Catalog, String> {
    let json = match path {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?
        }
        None => Catalog::DEVELOPMENT.to_owned(),
    };
    Catalog::from_json(&json).map_err(|invalid| invalid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let source = |name: &str| {
            settings
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&source)
    }

    const GOOD: [(&str, &str); 2] = [
        (
            "EVENTGRID_TOPIC_ENDPOINT",
            "http://127.0.0.1:6500/api/events",
        ),
        ("STORE_URL", "memory:"),
    ];

    #[test]
    fn defaults_are_filled_in() {
        let settings = read(&GOOD).unwrap();
        assert_eq!((settings.port, settings.store), (8080, StoreUrl::Memory));
        assert_eq!(settings.topic_key, None);
        assert_eq!(settings.catalog.payment_due_days, 14);
    }

    #[test]
    fn every_missing_setting_is_named_in_one_line() {
        let error = read(&[]).unwrap_err().to_string();
        assert!(
            error.contains("EVENTGRID_TOPIC_ENDPOINT: is not set"),
            "{error}"
        );
        assert!(error.contains("STORE_URL: is not set"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn malformed_settings_are_refused_without_showing_what_may_be_secret() {
        for (name, value, expected) in [
            (
                "EVENTGRID_TOPIC_ENDPOINT",
                "topic",
                "must be the topic's endpoint",
            ),
            (
                "EVENTGRID_TOPIC_ENDPOINT",
                "http://example.com/api/events",
                "must be https",
            ),
            (
                "EVENTGRID_TOPIC_ENDPOINT",
                "ftp://example.com",
                "got the scheme ftp",
            ),
            (
                "STORE_URL",
                "mysql://root:hunter2@db/orders",
                "got the scheme \"mysql\"",
            ),
            ("STORE_URL", "sqlite:", "the path is missing"),
            (
                "STORE_URL",
                "postgres://orders:hunter2@db:port/orders",
                "must be postgres://USER:PASSWORD@HOST",
            ),
            (
                "FUNCTIONS_CUSTOMHANDLER_PORT",
                "http",
                "must be a port number",
            ),
            ("PAYMENT_PROVIDER", "paypal", "must be simulated"),
            ("CATALOG_FILE", "/does/not/exist.json", "cannot read"),
        ] {
            let mut settings = vec![(name, value)];
            settings.extend(GOOD);
            let error = read(&settings).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name}: ")) && error.contains(expected),
                "{name}={value}: {error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn neither_a_key_nor_a_password_is_ever_shown() {
        let mut settings = vec![(
            "STORE_URL",
            "postgres://orders:hunter2@db.example.com/orders",
        )];
        settings.extend(GOOD);
        settings.push(("EVENTGRID_TOPIC_KEY", "s3cret"));
        let settings = read(&settings).unwrap();
        assert_eq!(
            settings.topic_key.as_ref().map(Secret::reveal),
            Some("s3cret")
        );
        let shown = format!("{settings:?}");
        assert!(
            !shown.contains("s3cret") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}
