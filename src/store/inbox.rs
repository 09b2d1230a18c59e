//! The inbox as it is stored with an order's row: one delivery per line. Control characters are refused when an event is
//! decoded, so neither tab nor line break can be part of a key.

use super::Key;

/// A delivery as it stands in the inbox.
pub(super) fn line(key: &Key) -> String {
    format!("{}\t{}\t{}\n", key.function, key.source, key.id)
}

/// Whether the inbox has a delivery.
pub(super) fn knows(inbox: &str, key: &Key) -> bool {
    let line = line(key);
    inbox.split_inclusive('\n').any(|known| known == line)
}
