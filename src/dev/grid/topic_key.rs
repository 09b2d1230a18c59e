//! The access key of the local topic.

use subtle::ConstantTimeEq as _;

/// The key that publishers to the local Event Grid must show. No secret: everybody knows it, as they know that of the
/// storage emulator, and the grid listens on this machine only. `local.settings.json` names the same.
pub const DEVELOPMENT_KEY: &str = "local-development";

/// Whether `offered` is the key. Takes the same time whatever was offered.
pub(super) fn matches(offered: &[u8]) -> bool {
    DEVELOPMENT_KEY.as_bytes().ct_eq(offered).into()
}
