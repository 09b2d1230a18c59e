//! The authorization of requests to a storage account with its key.
//!
//! The rules are those of "Authorize with Shared Key" (Azure Storage, REST API), for the Blob service from version
//! 2015-02-21 on: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use ring::hmac;
use url::Url;

use super::ACCOUNT;

/// The key of [`ACCOUNT`], the same in every Azurite and no secret: it stands in "Use the Azurite emulator for local Azure
/// Storage development" (Azure documentation).
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The header `Authorization` of a request with these `x-ms-` headers, in the order of their names.
pub(super) fn authorization(
    method: &Method,
    address: &Url,
    headers: &[(&str, &str)],
    content_type: &str,
    content_length: usize,
) -> String {
    let text = string_to_sign(method, address, headers, content_type, content_length);
    let key = BASE64_STANDARD.decode(KEY).unwrap_or_default();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    format!("SharedKey {ACCOUNT}:{signature}")
}

fn string_to_sign(
    method: &Method,
    address: &Url,
    headers: &[(&str, &str)],
    content_type: &str,
    content_length: usize,
) -> String {
    // An empty body counts as none at all.
    let length = match content_length {
        0 => String::new(),
        length => length.to_string(),
    };
    // Content-Encoding and -Language come before the length, Content-MD5 after it. The empty lines after the type are the
    // date, which is sent as x-ms-date, four conditions and a range.
    let mut text = format!("{method}\n\n\n{length}\n\n{content_type}\n\n\n\n\n\n\n");
    for (name, value) in headers {
        text.extend([name, ":", value, "\n"]);
    }
    // An emulator's path begins with the account as well, so that it stands there twice.
    text.extend(["/", ACCOUNT, address.path()]);
    let mut parameters: Vec<_> = address.query_pairs().collect();
    parameters.sort();
    for (name, value) in parameters {
        text.extend(["\n", &name, ":", &value]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_every_part_on_its_line() {
        let address = "http://127.0.0.1:10000/devstoreaccount1/letters?restype=container&comp=list";
        let headers = [
            ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"),
            ("x-ms-version", "2020-10-02"),
        ];
        let address = Url::parse(address).unwrap();
        assert_eq!(
            string_to_sign(&Method::GET, &address, &headers, "", 0),
            "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2020-10-02\n\
             /devstoreaccount1/devstoreaccount1/letters\ncomp:list\nrestype:container"
        );
        let put = string_to_sign(&Method::PUT, &address, &[], "application/json", 12);
        assert!(
            put.starts_with("PUT\n\n\n12\n\napplication/json\n\n\n\n\n\n\n/dev"),
            "{put}"
        );
        let header = authorization(&Method::GET, &address, &headers, "", 0);
        assert!(header.starts_with("SharedKey devstoreaccount1:") && header.ends_with('='));
    }
}
