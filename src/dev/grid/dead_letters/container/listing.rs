//! The answer of List Blobs, as far as it is needed.

use chrono::{DateTime, Utc};

/// A page of the list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// When each blob was changed, and its name.
    pub(super) blobs: Vec<(DateTime<Utc>, String)>,
    /// Where the next page begins, if there is one.
    pub(super) next: Option<String>,
}

impl Listing {
    /// Reads the XML. A blob that is not as the service writes it is left out.
    pub(super) fn read(xml: &str) -> Self {
        let blobs = xml.split("<Blob>").skip(1);
        Self {
            blobs: blobs.filter_map(blob).collect(),
            next: element(xml, "NextMarker").filter(|marker| !marker.is_empty()),
        }
    }
}

fn blob(xml: &str) -> Option<(DateTime<Utc>, String)> {
    let changed = DateTime::parse_from_rfc2822(&element(xml, "Last-Modified")?).ok()?;
    Some((changed.to_utc(), element(xml, "Name")?))
}

/// The text of the first element of this name, which has no attributes and holds no other.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'");
    // The last one, since an ampersand may be what was escaped.
    Some(text.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_are_read_and_where_to_go_on() {
        let page = r#"<?xml version="1.0" encoding="UTF-8" standalone="yes"?><EnumerationResults ServiceEndpoint="http://127.0.0.1:10000/devstoreaccount1" ContainerName="letters"><Prefix/><Marker/><MaxResults>5000</MaxResults><Delimiter/><Blobs><Blob><Name>BILLING/2026/3/4/6/a.json</Name><Properties><Creation-Time>Wed, 04 Mar 2026 06:00:00 GMT</Creation-Time><Last-Modified>Wed, 04 Mar 2026 06:00:01 GMT</Last-Modified></Properties></Blob><Blob><Name>A&amp;lt;</Name><Properties><Last-Modified>Wed, 04 Mar 2026 06:00:02 GMT</Last-Modified></Properties></Blob><Blob><Name>no time</Name></Blob></Blobs><NextMarker>n 1</NextMarker></EnumerationResults>"#;
        let listing = Listing::read(page);
        let at = |time: &str| time.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(
            listing.blobs,
            [
                (
                    at("2026-03-04T06:00:01Z"),
                    "BILLING/2026/3/4/6/a.json".to_owned()
                ),
                (at("2026-03-04T06:00:02Z"), "A&lt;".to_owned()),
            ]
        );
        assert_eq!(listing.next.as_deref(), Some("n 1"));
        let last = "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>";
        assert_eq!(Listing::read(last).next, None);
    }
}
