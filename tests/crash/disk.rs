//! The disk that `dev` keeps everything on: a small tmpfs, which can be filled up.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Mounts it until the end of its input, that is of this process, however it ends.
const GUARD: &str = r#"mount -t tmpfs -o size=128m,mode=700 orderflow-crash "$1" && echo mounted || exit 1
read -r _; umount -l "$1""#;

/// A mounted tmpfs.
pub struct SmallDisk {
    path: PathBuf,
    guard: Child,
}

impl SmallDisk {
    /// Mounts one at this folder; none where that is not allowed.
    pub fn mount(path: &Path) -> Option<Self> {
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard"]).arg(path);
        guard
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut guard = guard.process_group(0).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(guard.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        if said != "mounted\n" {
            guard.wait().unwrap();
            return None;
        }
        let path = path.to_owned();
        Some(Self { path, guard })
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Makes room again.
    pub fn free(&self) {
        // There may be none.
        drop(std::fs::remove_file(self.ballast()));
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}
