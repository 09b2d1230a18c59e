//! The access key of the local topic.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use subtle::ConstantTimeEq as _;

use crate::dev::{DevError, ambient::random_id};

/// The key that publishers must show. Made at random for each data folder, so that nothing secret is in the repository.
#[derive(Clone)]
pub(in super::super) struct TopicKey(Arc<str>);

impl TopicKey {
    /// Reads the key in `file`; makes one at the first start.
    pub(super) fn load_or_create(file: &Path) -> Result<Self, DevError> {
        let unusable = |cause| DevError::DataFolder {
            path: file.to_path_buf(),
            cause,
        };
        match fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => Err(DevError::TopicKey {
                path: file.to_path_buf(),
            }),
            Ok(text) => Ok(Self(text.trim().into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::create(file).map_err(unusable)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    fn create(file: &Path) -> io::Result<Self> {
        // 244 random bits; the digits are valid base64 too, as Azure's keys are.
        let key = format!("{}{}", random_id().simple(), random_id().simple());
        // The rename makes the file appear whole or not at all.
        let draft = file.with_extension("draft");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut written = options.open(&draft)?;
        writeln!(written, "{key}")?;
        written.sync_all()?;
        fs::rename(draft, file)?;
        Ok(Self(key.into()))
    }

    /// Whether `offered` is the key. Takes the same time whatever was offered.
    pub(super) fn matches(&self, offered: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(offered).into()
    }

    /// The key itself, for those who may publish.
    pub(in super::super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for TopicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TopicKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topic.key");
        let made = TopicKey::load_or_create(&file).unwrap();
        let read = TopicKey::load_or_create(&file).unwrap();
        assert_eq!(made.reveal(), read.reveal());
        assert_eq!(made.reveal().len(), 64);
        assert!(made.matches(read.reveal().as_bytes()));
        assert!(!made.matches(b"") && !made.matches(&[b'a'; 64]));
        assert!(!format!("{made:?}").contains(made.reveal()));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topic.key");
        TopicKey::load_or_create(&file).unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn an_empty_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topic.key");
        fs::write(&file, "\n").unwrap();
        assert!(matches!(
            TopicKey::load_or_create(&file),
            Err(DevError::TopicKey { .. })
        ));
    }
}
