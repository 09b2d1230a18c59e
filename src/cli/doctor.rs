//! `orderflow doctor`: looks at this machine, or at the exported settings of a deployed app, and names what is missing
//! or contradictory, with what mends it.

mod app;
mod folder;
mod reach;
mod report;
mod settings;
mod source;

use std::path::PathBuf;

use report::{Report, note};
use source::Source;

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// What `az functionapp config appsettings list -o json` or `az functionapp show -o json` said of a deployed app, or
    /// a local.settings.json; may be given more than once [default: the environment, over FOLDER/local.settings.json]
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,

    /// Where host.json and the functions are: the repository, or what `orderflow package` staged
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,

    /// Reach nobody: neither topic nor database
    #[arg(long)]
    offline: bool,
}

/// Looks, and prints what it sees while it looks.
///
/// # Errors
/// One line: a file is not what was expected, or how many faults there are.
pub(super) async fn run(doctor: Doctor) -> Result<(), String> {
    let source = Source::read(&doctor.from, &doctor.folder)?;
    let mut report = Report::default();
    note("looking at", &source.description());
    let settings = settings::check(&source, &doctor.folder, &mut report);
    app::check(&source, &mut report);
    folder::check(&doctor.folder, &mut report).await;
    match settings {
        None => report.skipped("network", "the settings come first"),
        Some(_) if doctor.offline => report.skipped("network", "--offline"),
        Some(settings) => reach::check(&settings, &source, &mut report).await,
    }
    report.conclude()
}
