//! Dead letters as blobs in a container of Azurite, the storage emulator, on this machine.
//!
//! The requests are those of the Blob service's REST API: Get Container Properties, Put Blob, List Blobs, Get Blob and
//! Delete Blob.

mod listing;
mod shared_key;

use std::{path::Path, time::Duration};

use bytes::BytesMut;
use reqwest::{Client, Method, Response, header::CONTENT_TYPE};
use url::Url;

use self::listing::Listing;
use super::place::PlaceError;
use crate::dev::{
    DevError,
    ambient::now,
    client::{self, describe, is_on_this_machine},
};

/// The account that every Azurite has.
const ACCOUNT: &str = "devstoreaccount1";

/// The version of the API, one that storage emulators of the last years know.
const API_VERSION: &str = "2020-10-02";

/// How long a request may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How many bytes of an answer are read.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// So many pages of the list of blobs are read, each of 5,000 names.
const PAGES: usize = 20;

/// The code of the answer where there is no such blob.
const NO_BLOB: &str = "BlobNotFound";

const JSON: &str = "application/json";

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    address: Url,
    client: Client,
}

impl Container {
    /// The container with this address. No error quotes it: somebody may have written a signature there.
    pub(super) fn new(address: &str) -> Result<Self, DevError> {
        Ok(Self {
            address: parse(address).map_err(DevError::DeadLetters)?,
            client: client::loopback()?,
        })
    }

    /// Whether it is there.
    pub(super) async fn check(&self) -> Result<(), PlaceError> {
        let mut address = self.address.clone();
        address.set_query(Some("restype=container"));
        self.ask(Method::GET, address, Vec::new()).await.map(drop)
    }

    /// Puts a block blob.
    pub(super) async fn put(&self, name: &str, text: Vec<u8>) -> Result<(), PlaceError> {
        let answer = self.ask(Method::PUT, self.blob(name), text).await;
        answer.map(drop)
    }

    /// The names of the blobs that changed last. The service lists them by name, so all are read.
    pub(super) async fn newest(&self, limit: usize) -> Result<Vec<String>, PlaceError> {
        let mut blobs = Vec::new();
        let mut marker = Some(String::new());
        for _ in 0..PAGES {
            let Some(from) = marker else { break };
            let mut address = self.address.clone();
            address.query_pairs_mut().extend_pairs([
                ("restype", "container"),
                ("comp", "list"),
                ("marker", &from),
            ]);
            let answer = self.ask(Method::GET, address, Vec::new()).await?;
            let page = Listing::read(&text(answer).await?);
            blobs.extend(page.blobs);
            marker = page.next;
        }
        blobs.retain(|(_, name)| Path::new(name).extension() == Some("json".as_ref()));
        blobs.sort_by(|one, other| other.cmp(one));
        blobs.truncate(limit);
        Ok(blobs.into_iter().map(|(_, name)| name).collect())
    }

    /// The text of a blob.
    pub(super) async fn get(&self, name: &str) -> Result<Option<String>, PlaceError> {
        match self.ask(Method::GET, self.blob(name), Vec::new()).await {
            Ok(answer) => text(answer).await.map(Some),
            Err(PlaceError::Refused(code)) if code == NO_BLOB => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a blob.
    pub(super) async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        let answer = self.ask(Method::DELETE, self.blob(name), Vec::new()).await;
        answer.map(drop)
    }

    pub(super) fn shown(&self) -> String {
        self.address.to_string()
    }

    fn blob(&self, name: &str) -> Url {
        let mut address = self.address.clone();
        if let Ok(mut path) = address.path_segments_mut() {
            path.extend(name.split('/'));
        }
        address
    }

    async fn ask(
        &self,
        method: Method,
        address: Url,
        body: Vec<u8>,
    ) -> Result<Response, PlaceError> {
        let date = now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let mut headers = vec![("x-ms-date", &*date), ("x-ms-version", API_VERSION)];
        let content_type = if method == Method::PUT {
            headers.insert(0, ("x-ms-blob-type", "BlockBlob"));
            JSON
        } else {
            ""
        };
        let authorization =
            shared_key::authorization(&method, &address, &headers, content_type, body.len());
        let mut request = self
            .client
            .request(method, address)
            .timeout(ANSWER)
            .header("Authorization", authorization);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if !content_type.is_empty() {
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| PlaceError::Unreachable(describe(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(&answer))
    }

    /// What the storage says instead of success, in the code that it has for it.
    fn refusal(&self, answer: &Response) -> PlaceError {
        let code = answer.headers().get("x-ms-error-code");
        match code.and_then(|code| code.to_str().ok()) {
            Some("ContainerNotFound") => PlaceError::NoContainer(self.name().to_owned()),
            Some(code) => PlaceError::Refused(code.to_owned()),
            None => PlaceError::Refused(format!("{}, as no blob storage does", answer.status())),
        }
    }

    fn name(&self) -> &str {
        let path = self.address.path_segments();
        path.and_then(Iterator::last).unwrap_or_default()
    }
}

async fn text(mut answer: Response) -> Result<String, PlaceError> {
    let mut whole = BytesMut::new();
    let broken = |error: reqwest::Error| PlaceError::Unreachable(describe(&error));
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        if whole.len() + chunk.len() > LARGEST_ANSWER {
            let problem = format!("with more than {LARGEST_ANSWER} bytes");
            return Err(PlaceError::Refused(problem));
        }
        whole.extend_from_slice(&chunk);
    }
    String::from_utf8(whole.into())
        .map_err(|_| PlaceError::Refused("with bytes that are no text".to_owned()))
}

/// Takes only what lies on this machine, since the account's key is known to everybody.
fn parse(address: &str) -> Result<Url, String> {
    let address = Url::parse(address).map_err(|error| error.to_string())?;
    if address.scheme() != "http" || !is_on_this_machine(&address) {
        return Err("its container is not on this machine, over plain HTTP".to_owned());
    }
    let bare = address.username().is_empty()
        && address.password().is_none()
        && address.query().is_none()
        && address.fragment().is_none();
    if !bare {
        return Err(
            "its address has more than a path: the account's key is known, no signature is needed"
                .to_owned(),
        );
    }
    let path: Vec<_> = address.path_segments().into_iter().flatten().collect();
    match path[..] {
        [ACCOUNT, container] if is_container(container) => Ok(address),
        [ACCOUNT, _] => Err(
            "its container's name must have 3 to 63 lower-case letters, digits and hyphens"
                .to_owned(),
        ),
        _ => Err(format!("its path is not /{ACCOUNT}/CONTAINER")),
    }
}

fn is_container(name: &str) -> bool {
    let allowed = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-');
    (3..=63).contains(&name.len()) && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_on_this_machine_and_has_no_signature() {
        for address in [
            "http://127.0.0.1:10000/devstoreaccount1/letters",
            "http://localhost:10000/devstoreaccount1/dead-letters-2",
            "http://[::1]:1/devstoreaccount1/abc",
        ] {
            assert_eq!(parse(address).unwrap().as_str(), address);
        }
        for (address, why) in [
            ("https://acme.blob.core.windows.net/letters", "this machine"),
            (
                "http://192.168.1.2:10000/devstoreaccount1/letters",
                "this machine",
            ),
            (
                "http://127.0.0.1.example.com/devstoreaccount1/letters",
                "this machine",
            ),
            (
                "https://127.0.0.1:10000/devstoreaccount1/letters",
                "plain HTTP",
            ),
            (
                "http://127.0.0.1:10000/devstoreaccount1/letters?sig=secret",
                "no signature",
            ),
            (
                "http://a:secret@127.0.0.1:10000/devstoreaccount1/letters",
                "no signature",
            ),
            (
                "http://127.0.0.1:10000/other/letters",
                "/devstoreaccount1/CONTAINER",
            ),
            (
                "http://127.0.0.1:10000/devstoreaccount1",
                "/devstoreaccount1/CONTAINER",
            ),
            (
                "http://127.0.0.1:10000/devstoreaccount1/Letters",
                "lower-case",
            ),
            ("http://127.0.0.1:10000/devstoreaccount1/", "lower-case"),
            (
                "http://127.0.0.1:10000/devstoreaccount1/a/b",
                "/devstoreaccount1/CONTAINER",
            ),
        ] {
            let problem = parse(address).unwrap_err();
            assert!(
                problem.contains(why) && !problem.contains("secret"),
                "{address}: {problem}"
            );
        }
    }
}
