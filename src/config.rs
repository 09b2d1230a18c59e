//! The settings: every environment variable that the program reads, in one place.

use std::path::PathBuf;

use url::Url;

use crate::{sales::Catalog, store::postgres};

/// Where settings come from: the environment, or a map in tests.
pub type Source<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The port where the handler listens if the host names none.
const DEFAULT_PORT: u16 = 8080;

/// Where Stripe's API is.
const STRIPE_API_BASE: &str = "https://api.stripe.com";

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

/// Who moves money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentProvider {
    /// `simulated`: takes Stripe's test tokens, moves no money.
    Simulated,
    /// `stripe`
    Stripe {
        /// `STRIPE_API_BASE`: where its API is; `https://api.stripe.com` when unset.
        api_base: Url,
        /// `STRIPE_API_KEY`: a secret or restricted key.
        api_key: Secret,
    },
}

impl PaymentProvider {
    /// The name in `PAYMENT_PROVIDER`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Stripe { .. } => "stripe",
        }
    }
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
    /// `AZURE_CLIENT_ID`: which of the app's user-assigned identities; its system-assigned one when unset.
    pub identity_client: Option<String>,
    /// `STORE_URL`: where the state lives.
    pub store: StoreUrl,
    /// `PAYMENT_PROVIDER`: who moves money; nobody when unset.
    pub payments: PaymentProvider,
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
        let payments = payments(&set)
            .map_err(|problems| {
                for (name, problem) in problems {
                    take(name, problem);
                }
            })
            .ok();
        match (port, endpoint, store, payments, catalog) {
            (Some(port), Some(topic_endpoint), Some(store), Some(payments), Some(catalog)) => {
                Ok(Self {
                    port,
                    topic_endpoint,
                    topic_key: set("EVENTGRID_TOPIC_KEY").map(Secret::new),
                    managed_identity: set("IDENTITY_ENDPOINT").is_some(),
                    identity_client: set("AZURE_CLIENT_ID").map(|id| id.trim().to_owned()),
                    store,
                    payments,
                    catalog,
                })
            }
            _ => Err(ConfigError(problems)),
        }
    }
}

/// The payment provider's settings, or which of them are wrong.
fn payments(
    set: &dyn Fn(&str) -> Option<String>,
) -> Result<PaymentProvider, Vec<(&'static str, String)>> {
    match set("PAYMENT_PROVIDER").as_deref().map(str::trim) {
        None | Some("simulated") => return Ok(PaymentProvider::Simulated),
        Some("stripe") => {}
        Some(provider) => {
            let problem = format!("must be simulated or stripe, got {provider:?}");
            return Err(vec![("PAYMENT_PROVIDER", problem)]);
        }
    }
    let base = set("STRIPE_API_BASE").unwrap_or_else(|| STRIPE_API_BASE.to_owned());
    let base = stripe_api_base(&base).map_err(|problem| ("STRIPE_API_BASE", problem));
    let key = stripe_api_key(set("STRIPE_API_KEY")).map_err(|problem| ("STRIPE_API_KEY", problem));
    match (base, key) {
        (Ok(api_base), Ok(api_key)) => Ok(PaymentProvider::Stripe { api_base, api_key }),
        (base, key) => Err([base.err(), key.err()].into_iter().flatten().collect()),
    }
}

fn stripe_api_base(value: &str) -> Result<Url, String> {
    let expected = "must be where Stripe's API is, such as https://api.stripe.com";
    let url = secure_url(value, expected)?;
    let login = !url.username().is_empty() || url.password().is_some();
    if url.query().is_some() || url.fragment().is_some() || login {
        return Err(format!("{expected}, and nothing more"));
    }
    Ok(url)
}

/// Keys are "sk_" for everything and "rk_" for some of it; "pk_" is for browsers and cannot charge.
fn stripe_api_key(value: Option<String>) -> Result<Secret, String> {
    let expected = "must be a secret or restricted key (sk_…, rk_…)";
    let value = value.ok_or_else(|| format!("is not set; it {expected}"))?;
    let key = value.trim();
    let known = key.starts_with("sk_") || key.starts_with("rk_");
    // The value is not shown, whatever it is.
    if known
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    {
        Ok(Secret::new(key))
    } else {
        Err(expected.to_owned())
    }
}

fn topic_endpoint(value: Option<String>) -> Result<Url, String> {
    let expected = "must be the topic's endpoint, such as https://NAME.REGION-1.eventgrid.azure.net/api/events";
    let value = value.ok_or_else(|| format!("is not set; {expected}"))?;
    secure_url(&value, expected)
}

/// A URL that a secret may be sent to.
fn secure_url(value: &str, expected: &str) -> Result<Url, String> {
    let url = Url::parse(value.trim()).map_err(|error| format!("{expected}: {error}"))?;
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
            ("PAYMENT_PROVIDER", "paypal", "must be simulated or stripe"),
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
    fn nobody_moves_money_unless_stripe_is_named_with_its_key() {
        assert_eq!(read(&GOOD).unwrap().payments, PaymentProvider::Simulated);
        let mut settings = GOOD.to_vec();
        settings.push(("PAYMENT_PROVIDER", "stripe"));
        let error = read(&settings).unwrap_err().to_string();
        assert!(
            error.starts_with("STRIPE_API_KEY: is not set") && !error.contains('\n'),
            "{error}"
        );
        settings.push(("STRIPE_API_KEY", "rk_test_123"));
        let expected = PaymentProvider::Stripe {
            api_base: Url::parse("https://api.stripe.com").unwrap(),
            api_key: Secret::new("rk_test_123"),
        };
        assert_eq!(read(&settings).unwrap().payments, expected);
    }

    #[test]
    fn malformed_settings_of_stripe_are_refused_without_showing_the_key() {
        for (name, value, expected) in [
            ("STRIPE_API_KEY", "pk_test_hunter2", "must be a secret"),
            ("STRIPE_API_KEY", "sk_hunter2\r\nx: y", "must be a secret"),
            ("STRIPE_API_BASE", "api.stripe.com", "must be where"),
            ("STRIPE_API_BASE", "http://api.stripe.com", "must be https"),
            ("STRIPE_API_BASE", "ftp://127.0.0.1", "got the scheme ftp"),
            (
                "STRIPE_API_BASE",
                "https://api.stripe.com?x",
                "nothing more",
            ),
            (
                "STRIPE_API_BASE",
                "https://:hunter2@api.stripe.com",
                "nothing more",
            ),
        ] {
            let mut settings = vec![(name, value)];
            settings.extend(GOOD);
            settings.extend([
                ("PAYMENT_PROVIDER", "stripe"),
                ("STRIPE_API_KEY", "sk_test_1"),
            ]);
            let error = read(&settings).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{name}: ")) && error.contains(expected),
                "{name}={value}: {error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
            // They are not looked at before they matter.
            settings.retain(|(name, _)| *name != "PAYMENT_PROVIDER");
            assert!(read(&settings).is_ok(), "{name}={value}");
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
        settings.push(("PAYMENT_PROVIDER", "stripe"));
        settings.push(("STRIPE_API_KEY", "sk_s3cret"));
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
