//! Whether a program would start in Azure Functions, read from its file.
//!
//! Where it would not, the host logs only "Failed to start Worker Channel" and stops two minutes later, so it is said here.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use elf::{
    ElfBytes, ParseError,
    abi::{DT_NEEDED, EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC, PT_INTERP, VER_FLG_WEAK},
    endian::AnyEndian,
    file::Class,
    gnu_symver::VerNeedIterator,
    string_table::StringTable,
    to_str::e_machine_to_human_str,
};

/// The glibc that every Functions image has. Azure does not tell on which image an app runs. Those of Functions 4 are
/// built on Debian 11 (2.31), Debian 12 (2.36) and Ubuntu 24.04 (2.39); see `host/4` in
/// <https://github.com/Azure/azure-functions-docker>.
pub const IMAGE_GLIBC: Glibc = Glibc(2, 31);

/// The dynamic loader of glibc on x86-64.
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

/// The libraries that every image has because of glibc and GCC.
const IMAGE_LIBRARIES: [&str; 7] = [
    "libc.so.6",
    "libm.so.6",
    "libgcc_s.so.1",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "ld-linux-x86-64.so.2",
];

/// A version of glibc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc(u16, u16);

impl std::fmt::Display for Glibc {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

impl Glibc {
    /// The version behind a symbol version such as `GLIBC_2.2.5`. `None` for those without one, such as
    /// `GLIBC_ABI_DT_RELR`.
    fn of_symbol_version(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix("GLIBC_")?.split('.');
        let mut next = || numbers.next()?.parse().ok();
        Some(Self(next()?, next()?))
    }
}

/// Why a program would not start in Azure, or is not meant to.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not a program for Linux at all, or a damaged one.
    #[error("it is not an ELF program for 64-bit Linux ({0})")]
    NotElf(String),
    /// For another processor.
    #[error("it is made for {0}, and Azure Functions runs on x86-64")]
    Machine(String),
    /// Linked for another C library, or another distribution.
    #[error("it wants the dynamic loader {0}, and the Functions image has {LOADER}")]
    Loader(String),
    /// Linked with a library that is not there.
    #[error("it needs the library {0}, which the Functions image does not have")]
    Library(String),
    /// Linked with a glibc newer than the image's.
    #[error(
        "it needs {version} of {library}, and the Functions image may have no more than glibc {IMAGE_GLIBC}"
    )]
    Glibc {
        /// The newest symbol version that it needs.
        version: String,
        /// The library that must have it.
        library: String,
    },
    /// The deployed package is read-only: the host cannot mend it.
    #[error("it may not be executed: its mode is {0:o}")]
    NotExecutable(u32),
    /// Slow and large.
    #[error("it is a debug build")]
    DebugBuild,
    /// Several times as large as it need be.
    #[error("it holds debug information, so it is a debug build or not stripped")]
    DebugInformation,
}

impl From<ParseError> for Unfit {
    fn from(error: ParseError) -> Self {
        Self::NotElf(error.to_string())
    }
}

/// What a program that is fit for Azure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// The glibc that it needs; `None` when it is linked statically.
    pub glibc: Option<Glibc>,
}

/// Reads a program's file and says whether it would start in Azure.
///
/// # Errors
/// The outer one when the file cannot be read.
pub fn check(program: &Path) -> io::Result<Result<Fit, Unfit>> {
    let mode = fs::metadata(program)?.permissions().mode() & 0o777;
    let content = fs::read(program)?;
    Ok(inspect(&content).and_then(|fit| {
        if mode & 0o100 != 0 {
            Ok(fit)
        } else {
            Err(Unfit::NotExecutable(mode))
        }
    }))
}

fn inspect(content: &[u8]) -> Result<Fit, Unfit> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(content)?;
    let header = file.ehdr;
    if header.e_machine != EM_X86_64 {
        return Err(Unfit::Machine(machine(header.e_machine)));
    }
    if header.class != Class::ELF64 || !matches!(header.e_type, ET_EXEC | ET_DYN) {
        return Err(Unfit::NotElf("another kind of file".to_owned()));
    }
    let loader = loader(&file)?;
    if let Some(other) = loader.filter(|loader| *loader != LOADER) {
        return Err(Unfit::Loader(other.to_owned()));
    }
    if let Some(missing) = libraries(&file)?
        .into_iter()
        .find(|library| !IMAGE_LIBRARIES.contains(library))
    {
        return Err(Unfit::Library(missing.to_owned()));
    }
    let glibc = glibc(&file)?;
    if loader.is_some() && glibc.is_none() {
        return Err(Unfit::NotElf(
            "it does not say which glibc it needs".to_owned(),
        ));
    }
    if file.section_header_by_name(".debug_info")?.is_some() {
        return Err(Unfit::DebugInformation);
    }
    Ok(Fit { glibc })
}

fn machine(number: u16) -> String {
    match number {
        EM_AARCH64 => "arm64".to_owned(),
        other => {
            e_machine_to_human_str(other).map_or_else(|| format!("machine {other}"), str::to_owned)
        }
    }
}

/// The dynamic loader; a static program has none.
fn loader<'a>(file: &ElfBytes<'a, AnyEndian>) -> Result<Option<&'a str>, Unfit> {
    let segment = file
        .segments()
        .and_then(|segments| segments.iter().find(|segment| segment.p_type == PT_INTERP));
    let Some(segment) = segment else {
        return Ok(None);
    };
    let path = std::str::from_utf8(file.segment_data(&segment)?)
        .map_err(|error| Unfit::NotElf(error.to_string()))?;
    Ok(Some(path.trim_end_matches('\0')))
}

/// The libraries that the loader must find.
fn libraries<'a>(file: &ElfBytes<'a, AnyEndian>) -> Result<Vec<&'a str>, Unfit> {
    let (Some(dynamic), Some((_, names))) = (file.dynamic()?, file.dynamic_symbol_table()?) else {
        return Ok(Vec::new());
    };
    dynamic
        .iter()
        .filter(|entry| entry.d_tag == DT_NEEDED)
        .map(|entry| Ok(text(&names, entry.d_val())?))
        .collect()
}

/// The newest glibc whose symbols the program is linked with; one newer than the image's is an error.
fn glibc(file: &ElfBytes<'_, AnyEndian>) -> Result<Option<Glibc>, Unfit> {
    let Some(section) = file.section_header_by_name(".gnu.version_r")? else {
        return Ok(None);
    };
    let names = file
        .section_headers()
        .and_then(|headers| headers.get(usize::try_from(section.sh_link).ok()?).ok())
        .ok_or(ParseError::BadOffset(section.sh_offset))?;
    let names = file.section_data_as_strtab(&names)?;
    let (needs, _) = file.section_data(&section)?;
    let libraries = VerNeedIterator::new(
        file.ehdr.endianness,
        file.ehdr.class,
        section.sh_info.into(),
        0,
        needs,
    );
    let mut needed: Option<Needed<'_>> = None;
    for (library, versions) in libraries {
        let library = text(&names, library.vn_file.into())?;
        // The loader only warns of a weak one.
        for version in versions.filter(|version| version.vna_flags & VER_FLG_WEAK == 0) {
            let name = text(&names, version.vna_name.into())?;
            if name.starts_with("GLIBC_") {
                needed = needed.max(Some(Needed::new(name, library)));
            }
        }
    }
    match needed {
        None => Ok(None),
        Some(Needed { glibc, .. }) if glibc <= IMAGE_GLIBC => Ok(Some(glibc)),
        Some(Needed { name, library, .. }) => Err(Unfit::Glibc {
            version: name.to_owned(),
            library: library.to_owned(),
        }),
    }
}

/// A symbol version of glibc that a program is linked with, by its age.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Needed<'a> {
    glibc: Glibc,
    name: &'a str,
    library: &'a str,
}

impl<'a> Needed<'a> {
    fn new(name: &'a str, library: &'a str) -> Self {
        // One without a number, such as GLIBC_ABI_DT_RELR, is newer than the image's.
        let glibc = Glibc::of_symbol_version(name).unwrap_or(Glibc(u16::MAX, 0));
        Self {
            glibc,
            name,
            library,
        }
    }
}

fn text<'a>(names: &StringTable<'a>, offset: u64) -> Result<&'a str, ParseError> {
    let offset = usize::try_from(offset).map_err(|_| ParseError::BadOffset(offset))?;
    names.get(offset)
}
