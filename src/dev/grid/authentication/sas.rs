//! SAS tokens: `r={resource}&e={expiry}&s={signature}`, signed with an access key.
//!
//! The samples that Microsoft publishes write the expiry in three ways and percent-encode in two. So the signature is
//! checked over the bytes that came, and only then they are decoded (Azure documentation, "Authenticate publishing clients
//! using access keys or shared access signatures").

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::{DateTime, NaiveDateTime, Utc};
use ring::hmac;
use url::form_urlencoded;

use super::access_key::SIGNING_KEY;

/// How the expiry is written: by the C# and JavaScript clients, by the documentation's Python, and by the Python client.
const EXPIRY_FORMATS: [&str; 3] = [
    "%m/%d/%Y %I:%M:%S %p",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
];

/// Checks a token for the address (host, port and path) that a request went to.
///
/// # Errors
/// What is wrong with it.
pub(super) fn verify(token: &str, address: &str, now: DateTime<Utc>) -> Result<(), &'static str> {
    let (signed, signature) = token
        .trim()
        .rsplit_once("&s=")
        .ok_or("the SAS token is not r=…&e=…&s=…")?;
    let signature = percent_encoding::percent_decode_str(signature)
        .decode_utf8()
        .ok()
        .and_then(|text| BASE64_STANDARD.decode(text.as_ref()).ok())
        .ok_or("the SAS token's signature is not Base64")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY);
    // Takes the same time wherever they differ.
    hmac::verify(&key, signed.as_bytes(), &signature)
        .map_err(|_| "the SAS token is signed with another key")?;
    let part = |wanted: &str| {
        form_urlencoded::parse(signed.as_bytes())
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    let resource = part("r").ok_or("the SAS token names no resource")?;
    if !covers(&resource, address) {
        return Err("the SAS token is for another resource");
    }
    let expiry = part("e").and_then(|expiry| read_expiry(&expiry));
    match expiry {
        None => Err("the SAS token's expiry is not a time"),
        Some(expiry) if expiry <= now => Err("the SAS token has expired"),
        Some(_) => Ok(()),
    }
}

/// A token is good for everything below its resource.
fn covers(resource: &str, address: &str) -> bool {
    let resource = resource
        .split_once("://")
        .map_or(resource, |(_, rest)| rest);
    let resource = resource.split('?').next().unwrap_or_default();
    let (host, path) = resource.split_once('/').unwrap_or((resource, ""));
    let resource = format!("{}/{path}", host.to_ascii_lowercase());
    let resource = resource.trim_end_matches('/');
    address
        .strip_prefix(resource)
        .is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

fn read_expiry(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    if let Ok(time) = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z") {
        return Some(time.to_utc());
    }
    // Newer versions of .NET write a narrow space before AM and PM.
    let text = text.replace('\u{202f}', " ");
    EXPIRY_FORMATS
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok())
        .map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with Python's hmac, in the ways of C#, of the documentation's Python, and of the Python client.
    const TOKENS: [&str; 3] = [
        "r=http%3a%2f%2f127.0.0.1%3a6500%2fapi%2fevents&e=11%2f24%2f2026+10%3a00%3a00+AM&s=ptyiIvu45vAMYhfBrQkclfMo8OIraDk7H3wwdOfW9Ms%3d",
        "r=http%3A%2F%2F127.0.0.1%3A6500%2Fapi%2Fevents&e=2026-11-24T10%3A00%3A00&s=G8ulpsNV%2FEDKk%2F%2BEtg5jQ75meGJMTARkxen884lxoU4%3D",
        "r=http%3A%2F%2F127.0.0.1%3A6500%2Fapi%2Fevents%3FapiVersion%3D2018-01-01&e=2026-11-24+10%3A00%3A00.123456%2B00%3A00&s=0%2BMGBNENCqDGuyHSJWdOf6XlScVqJuKDNiGRgVEtHNw%3D",
    ];

    const ADDRESS: &str = "127.0.0.1:6500/api/events";

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }

    #[test]
    fn every_published_way_to_write_a_token_is_understood() {
        for token in TOKENS {
            assert_eq!(
                verify(token, ADDRESS, at("2026-11-24T09:59:59Z")),
                Ok(()),
                "{token}"
            );
            assert_eq!(
                verify(token, ADDRESS, at("2026-11-24T10:00:01Z")),
                Err("the SAS token has expired"),
                "{token}"
            );
        }
    }

    #[test]
    fn a_token_is_good_for_its_resource_and_what_lies_below() {
        let now = at("2026-11-24T09:00:00Z");
        let check = |address| verify(TOKENS[0], address, now);
        assert_eq!(check("127.0.0.1:6500/api/events/more"), Ok(()));
        for address in [
            "127.0.0.1:6501/api/events",
            "localhost:6500/api/events",
            "127.0.0.1:6500/api/eventsmore",
            "127.0.0.1:6500/api",
        ] {
            assert_eq!(
                check(address),
                Err("the SAS token is for another resource"),
                "{address}"
            );
        }
    }

    #[test]
    fn a_token_that_was_changed_is_refused() {
        let now = at("2026-11-24T09:00:00Z");
        let later = TOKENS[1].replace("2026", "2027");
        assert_eq!(
            verify(&later, ADDRESS, now),
            Err("the SAS token is signed with another key")
        );
        assert_eq!(
            verify("r=x&e=y", ADDRESS, now),
            Err("the SAS token is not r=…&e=…&s=…")
        );
        assert_eq!(
            verify("r=x&e=y&s=%%%", ADDRESS, now),
            Err("the SAS token's signature is not Base64")
        );
    }
}
