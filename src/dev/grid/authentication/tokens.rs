//! Tokens as Entra ID issues them: JSON Web Tokens, signed with a key that is made at the start and never leaves.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// How long a token lives.
pub(super) const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// Who issues the tokens, in their words.
pub(super) const ISSUER: &str = "https://orderflow.local/tenant/v2.0";

/// The name of the only key.
const KEY_ID: &str = "local";

/// Issues tokens, and knows them again.
pub(super) struct TokenIssuer {
    /// None if the system has no randomness: then nobody gets a token.
    key: Option<EcdsaKeyPair>,
    random: SystemRandom,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    nbf: i64,
    exp: i64,
}

impl TokenIssuer {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .ok()
            .and_then(|document| {
                EcdsaKeyPair::from_pkcs8(
                    &ECDSA_P256_SHA256_FIXED_SIGNING,
                    document.as_ref(),
                    &random,
                )
                .ok()
            });
        Self { key, random }
    }

    /// A token for an audience, good from `now` on for [`LIFETIME`]. None if it cannot be signed.
    pub(super) fn issue(&self, audience: &str, now: DateTime<Utc>) -> Option<String> {
        self.issue_with(audience, Map::new(), now)
    }

    /// The same with these claims as well.
    pub(super) fn issue_with(
        &self,
        audience: &str,
        more: Map<String, Value>,
        now: DateTime<Utc>,
    ) -> Option<String> {
        let header = json!({ "typ": "JWT", "alg": "ES256", "kid": KEY_ID });
        let mut claims = json!({
            "aud": audience,
            "iss": ISSUER,
            "iat": now.timestamp(),
            "nbf": now.timestamp(),
            "exp": (now + LIFETIME).timestamp(),
            "sub": "local-development",
        });
        if let Value::Object(claims) = &mut claims {
            claims.extend(more);
        }
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let signature = self.key.as_ref()?.sign(&self.random, signed.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.ok()?);
        Some(format!("{signed}.{signature}"))
    }

    /// Checks a token for an audience.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify(
        &self,
        token: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<(), &'static str> {
        const MALFORMED: &str = "the bearer token is not a JSON Web Token";
        let (signed, signature) = token.trim().rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
        let header: Header = decoded(header).ok_or(MALFORMED)?;
        let claims: Claims = decoded(claims).ok_or(MALFORMED)?;
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| MALFORMED)?;
        let key = self.key.as_ref().ok_or("no token has been issued")?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
        let genuine = header.alg == "ES256"
            && header.kid == KEY_ID
            && key.verify(signed.as_bytes(), &signature).is_ok();
        if !genuine || claims.iss != ISSUER {
            return Err("the bearer token was not issued by this Event Grid's identity endpoint");
        }
        if claims.aud.trim_end_matches('/') != audience {
            return Err(
                "the bearer token is for another audience than https://eventgrid.azure.net",
            );
        }
        match now.timestamp() {
            time if time < claims.nbf => Err("the bearer token is not valid yet"),
            time if time >= claims.exp => Err("the bearer token has expired"),
            _ => Ok(()),
        }
    }

    /// The public key, as a JSON Web Key Set (RFC 7517).
    pub(super) fn public_keys(&self) -> Value {
        // An uncompressed point: 4, then the two coordinates.
        let coordinates = self.key.as_ref().and_then(|key| {
            let (_, point) = key.public_key().as_ref().split_first()?;
            point.split_at_checked(point.len() / 2)
        });
        let key = coordinates.map(|(x, y)| {
            json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
                "x": BASE64_URL_SAFE_NO_PAD.encode(x),
                "y": BASE64_URL_SAFE_NO_PAD.encode(y),
            })
        });
        json!({ "keys": key.into_iter().collect::<Vec<_>>() })
    }
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TokenIssuer")
            .finish_non_exhaustive()
    }
}

fn encoded(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn decoded<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIENCE: &str = "https://eventgrid.azure.net";

    fn now() -> DateTime<Utc> {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_token_is_known_again_while_it_lives() {
        let issuer = TokenIssuer::new();
        let token = issuer.issue(AUDIENCE, now()).unwrap();
        let verify = |time| issuer.verify(&token, AUDIENCE, time);
        assert_eq!(verify(now()), Ok(()));
        assert_eq!(
            verify(now() + LIFETIME),
            Err("the bearer token has expired")
        );
        assert_eq!(
            verify(now() - TimeDelta::seconds(1)),
            Err("the bearer token is not valid yet")
        );
    }

    #[test]
    fn another_audience_another_issuer_or_another_claim_is_refused() {
        let issuer = TokenIssuer::new();
        let other = issuer.issue("https://vault.azure.net", now()).unwrap();
        assert!(
            issuer
                .verify(&other, AUDIENCE, now())
                .unwrap_err()
                .contains("audience")
        );
        let foreign = TokenIssuer::new().issue(AUDIENCE, now()).unwrap();
        assert!(
            issuer
                .verify(&foreign, AUDIENCE, now())
                .unwrap_err()
                .contains("not issued")
        );
        let token = issuer.issue(AUDIENCE, now()).unwrap();
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
            panic!("{token}");
        };
        let mut longer: Value = decoded(claims).unwrap();
        longer["exp"] = json!(i64::MAX);
        let longer = format!("{header}.{}.{signature}", encoded(&longer));
        assert!(
            issuer
                .verify(&longer, AUDIENCE, now())
                .unwrap_err()
                .contains("not issued")
        );
        let unsigned = json!({ "alg": "none", "kid": KEY_ID });
        let unsigned = format!("{}.{claims}.", encoded(&unsigned));
        assert!(
            issuer
                .verify(&unsigned, AUDIENCE, now())
                .unwrap_err()
                .contains("not issued")
        );
        assert!(
            issuer
                .verify("x", AUDIENCE, now())
                .unwrap_err()
                .contains("JSON Web Token")
        );
    }
}
