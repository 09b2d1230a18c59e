//! Where dead letters lie: a folder, or a container of a blob storage on this machine.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{container::Container, folder::Folder};
use crate::dev::DevError;

/// Why a place could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum PlaceError {
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("the blob storage is not reached: {0}")]
    Unreachable(String),
    #[error("there is no container {0}")]
    NoContainer(String),
    #[error("the blob storage answers {0}")]
    Refused(String),
}

/// The two places. What lies there has a name, with `/` between the levels, and a text.
#[derive(Debug)]
pub(super) enum Place {
    Folder(Folder),
    Container(Container),
}

impl Place {
    /// The place that was asked for: a path or the address of a container. Without either the usual folder.
    pub(super) fn new(asked: Option<&str>, usual: PathBuf) -> Result<Self, DevError> {
        Ok(match asked {
            None => Self::Folder(Folder::new(usual)),
            Some(address) if address.contains("://") => Self::Container(Container::new(address)?),
            Some(path) => Self::Folder(Folder::new(Path::new(path).to_path_buf())),
        })
    }

    /// Whether letters can be kept there now, as far as that can be said before there is one.
    pub(super) async fn check(&self) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => folder.check().await.map_err(PlaceError::File),
            Self::Container(container) => container.check().await,
        }
    }

    /// Keeps a text, in the place of one of the same name. It is there as a whole or not at all.
    pub(super) async fn put(&self, name: &str, text: Vec<u8>) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => folder.put(name, text).await.map_err(PlaceError::File),
            Self::Container(container) => container.put(name, text).await,
        }
    }

    /// The names of the newest ones, newest first, within `limit`.
    pub(super) async fn newest(&self, limit: usize) -> Result<Vec<String>, PlaceError> {
        match self {
            Self::Folder(folder) => folder.newest(limit).await.map_err(PlaceError::File),
            Self::Container(container) => container.newest(limit).await,
        }
    }

    /// The text of this name, if there is one.
    pub(super) async fn get(&self, name: &str) -> Result<Option<String>, PlaceError> {
        match self {
            Self::Folder(folder) => folder.get(name).await.map_err(PlaceError::File),
            Self::Container(container) => container.get(name).await,
        }
    }

    /// Removes what has this name.
    pub(super) async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => folder.remove(name).await.map_err(PlaceError::File),
            Self::Container(container) => container.remove(name).await,
        }
    }

    /// Where that is, for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Folder(folder) => folder.shown(),
            Self::Container(container) => container.shown(),
        }
    }
}
