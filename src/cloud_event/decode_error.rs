//! Why bytes are no CloudEvent.

use std::borrow::Cow;

/// Input is echoed up to this many characters: enough to recognise it, too few to flood a log.
const EXCERPT: usize = 80;

/// Why a request or document is no CloudEvent, in words its sender can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}expected {expected}, came {came}", if path.is_empty() { "" } else { ": " })]
pub struct DecodeError {
    /// What is to be answered.
    pub kind: DecodeErrorKind,
    /// Where: `id`, `data`, `[2].source`, `ce-subject`; empty for the whole document.
    pub path: String,
    /// What should have been there.
    pub expected: Cow<'static, str>,
    /// What was there, shortened.
    pub came: String,
}

/// The two ways to fail, by the status they are answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// An event format other than JSON: 415.
    UnsupportedMediaType,
    /// Everything else; sending the same again cannot succeed: 400.
    Malformed,
}

impl DecodeError {
    pub(super) fn malformed(
        path: &str,
        expected: impl Into<Cow<'static, str>>,
        came: impl Into<String>,
    ) -> DecodeError {
        DecodeError {
            kind: DecodeErrorKind::Malformed,
            path: shortened(path),
            expected: expected.into(),
            came: came.into(),
        }
    }

    pub(super) fn missing(path: &str, expected: &'static str) -> DecodeError {
        DecodeError::malformed(path, expected, "nothing")
    }

    pub(super) fn unsupported_media_type(supported: &'static str, came: &str) -> DecodeError {
        DecodeError {
            kind: DecodeErrorKind::UnsupportedMediaType,
            path: "Content-Type".to_owned(),
            expected: supported.into(),
            came: excerpt(came),
        }
    }

    /// What `serde_json` has to say about `json`, without more of the input than an excerpt.
    pub(super) fn json(
        path: &str,
        expected: &'static str,
        json: &[u8],
        error: &serde_json::Error,
    ) -> DecodeError {
        let reason = error.to_string();
        // serde_json keeps no code for this one; its limit is 128.
        if reason.starts_with("recursion limit exceeded") {
            return DecodeError::malformed(
                path,
                "JSON nested at most 128 levels deep",
                "deeper nesting",
            );
        }
        if json.trim_ascii().is_empty() {
            return DecodeError::malformed(path, expected, "an empty body");
        }
        let reason = reason.strip_prefix("invalid type: ").unwrap_or(&reason);
        match reason.split_once(", expected ") {
            Some((came, _)) => {
                let came = shortened(came);
                let came = format!("{came} at line {} column {}", error.line(), error.column());
                DecodeError::malformed(path, expected, came)
            }
            None => DecodeError::malformed(path, expected, shortened(reason)),
        }
    }

    /// The same error seen from further out: `source` becomes `[2].source` or `ce-source`.
    pub(super) fn under(mut self, prefix: &str) -> DecodeError {
        self.path.insert_str(0, prefix);
        self
    }
}

/// `text` in quotes, escaped and shortened, to be shown in an error.
pub(super) fn excerpt(text: &str) -> String {
    format!("{:?}", shortened(text))
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(EXCERPT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
