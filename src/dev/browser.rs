//! Opening an address in the developer's browser.

use std::process::{Command, Stdio};

use super::terminal::Terminal;

/// The program that opens addresses on this system.
const OPENER: (&str, &[&str]) = if cfg!(target_os = "macos") {
    ("open", &[])
} else if cfg!(windows) {
    ("cmd", &["/C", "start"])
} else {
    ("xdg-open", &[])
};

/// Opens an address. Not being able to is worth a line, no more.
pub(super) fn open(address: &str, terminal: &Terminal) {
    let (program, arguments) = OPENER;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.spawn() {
        // Waited for elsewhere, lest it stay behind as a zombie.
        Ok(mut browser) => drop(std::thread::spawn(move || browser.wait())),
        Err(error) => terminal.alarm(format!("cannot open {address} with {program}: {error}")),
    }
}
