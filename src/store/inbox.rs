//! The inbox as it is stored with an order's row: one delivery per line. Control characters are refused when an event is
//! decoded, so neither tab nor line break can be part of a key.

use super::Key;

/// A delivery as it stands in the inbox.
pub(super) fn line(key: &Key) -> String {
    [&key.function, "\t", &key.source, "\t", &key.id, "\n"].concat()
}

/// Whether the inbox has a delivery.
pub(super) fn knows(inbox: &str, key: &Key) -> bool {
    inbox.split_terminator('\n').any(|known| {
        let mut fields = known.splitn(3, '\t');
        [&key.function, &key.source, &key.id]
            .into_iter()
            .all(|field| fields.next() == Some(field))
    })
}
