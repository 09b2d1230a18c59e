//! The zip that is deployed.
//!
//! The same files make the same bytes, whenever and wherever it is written: order, times and modes are fixed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter},
    path::Path,
};

use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use super::{EXECUTABLE, staging};

/// The smallest zip. Every instance that Azure starts fetches it, and it is written once.
const LEVEL: i64 = 9;

/// Writes the zip of a staged folder. It replaces an earlier one only when it is complete. Returns its size in bytes.
pub(super) fn write(staged: &Path, zip: &Path) -> io::Result<u64> {
    let mut unfinished = OsString::from(zip);
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    let mut writer = ZipWriter::new(BufWriter::new(File::create(unfinished)?));
    for file in staging::deployed() {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(LEVEL))
            .last_modified_time(DateTime::default())
            .unix_permissions(mode(&file));
        writer.start_file(file.to_string_lossy(), options)?;
        io::copy(&mut File::open(staged.join(&file))?, &mut writer)?;
    }
    let file = writer.finish()?.into_inner()?;
    let size = file.metadata()?.len();
    fs::rename(unfinished, zip)?;
    Ok(size)
}

/// The package is mounted read-only: without the right to be executed, the handler would not start.
fn mode(file: &Path) -> u32 {
    if file == Path::new(EXECUTABLE) {
        0o755
    } else {
        0o644
    }
}
