//! `orderflow package`: what is refused, what is staged, what a trial finds, and what the zip holds.

use std::{
    fs::{self, File, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use orderflow::{
    artifacts,
    functions::FUNCTIONS,
    package::{
        Package, binary,
        trial::{self, TrialError},
    },
};
use serde_json::json;
use tempfile::TempDir;
use zip::ZipArchive;

use crate::{
    processes::{orderflow, output},
    support::root,
};

/// Builds a program from C. Rust needs the same compiler to link.
fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (code, program) = (folder.join(name).with_extension("c"), folder.join(name));
    fs::write(&code, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.arg(&code).arg("-o").arg(&program).args(options);
    assert!(compiler.status().unwrap().success(), "{compiler:?}");
    program
}

/// A program that needs nothing of the system, writes a line and ends: whatever is compiled here runs everywhere.
fn saying(folder: &Path, line: &str) -> PathBuf {
    let source = format!(
        r#"
        static long call(long number, long a, long b, long c) {{
            long result;
            __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
            return result;
        }}
        void _start(void) {{
            static const char line[] = "{line}\n";
            call(1, 1, (long)line, sizeof line - 1);
            call(60, 3, 0, 0);
        }}"#
    );
    compile(folder, "saying", &source, &["-nostdlib", "-static"])
}

/// A program linked with the system's glibc, whose symbol versions are then said to be old ones.
fn linked(folder: &Path, options: &[&str]) -> Vec<u8> {
    let program = compile(folder, "linked", "int main(void) { return 0; }", options);
    let mut content = fs::read(program).unwrap();
    for new in 18..60 {
        patch(&mut content, &format!("GLIBC_2.{new}"), "GLIBC_2.17");
    }
    content
}

/// Puts one text in the place of every other of the same length; says whether there was any.
fn patch(content: &mut [u8], old: &str, new: &str) -> bool {
    assert_eq!(old.len(), new.len());
    let mut found = false;
    for start in 0..content.len() - old.len() {
        let place = &mut content[start..start + old.len()];
        if place == old.as_bytes() {
            place.copy_from_slice(new.as_bytes());
            found = true;
        }
    }
    found
}

/// Why a file with this content and mode is not for Azure, in words.
#[track_caller]
fn refusal(content: &[u8], mode: u32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handler");
    fs::write(&file, content).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    binary::check(&file)
        .unwrap()
        .expect_err("it is refused")
        .to_string()
}

#[test]
fn a_program_that_the_functions_image_can_run_is_fit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("handler");
    fs::write(&file, linked(folder.path(), &[])).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let glibc = binary::check(&file).unwrap().unwrap().glibc.unwrap();
    assert!(glibc <= binary::IMAGE_GLIBC, "{glibc}");
    let alone = saying(folder.path(), "orderflow");
    assert_eq!(binary::check(&alone).unwrap().unwrap().glibc, None);
}

#[test]
fn what_would_not_start_in_azure_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let fit = linked(folder.path(), &[]);
    let patched = |old: &str, new: &str| {
        let mut content = fit.clone();
        assert!(patch(&mut content, old, new), "{old} is not there");
        refusal(&content, 0o755)
    };

    let mut arm = fit.clone();
    arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
    assert_eq!(
        refusal(&arm, 0o755),
        "it is made for arm64, and Azure Functions runs on x86-64"
    );
    assert_eq!(
        patched(
            "/lib64/ld-linux-x86-64.so.2",
            "/lib/ld-musl-x86_64.so.1\0\0\0"
        ),
        "it wants the dynamic loader /lib/ld-musl-x86_64.so.1, and the Functions image has /lib64/ld-linux-x86-64.so.2"
    );
    assert_eq!(
        patched("libc.so.6", "libz.so.1"),
        "it needs the library libz.so.1, which the Functions image does not have"
    );
    assert_eq!(
        patched("GLIBC_2.2.5", "GLIBC_2.321"),
        "it needs GLIBC_2.321 of libc.so.6, and the Functions image may have no more than glibc 2.31"
    );
    // What a linker asks for that packs relocations: glibc 2.36 has it.
    assert_eq!(
        patched("GLIBC_2.2.5", "GLIBC_ABI_X"),
        "it needs GLIBC_ABI_X of libc.so.6, and the Functions image may have no more than glibc 2.31"
    );
    assert_eq!(
        refusal(&fit, 0o644),
        "it may not be executed: its mode is 644"
    );
    assert_eq!(
        refusal(&linked(folder.path(), &["-g"]), 0o755),
        "it holds debug information, so it is a debug build or not stripped"
    );
    for (what, content) in [
        ("a script", "#!/bin/sh\nexec orderflow serve\n".as_bytes()),
        ("nothing", b""),
        ("the half of a program", &fit[..fit.len() / 2]),
    ] {
        let refusal = refusal(content, 0o755);
        assert!(
            refusal.starts_with("it is not an ELF program for 64-bit Linux"),
            "{what}: {refusal}"
        );
    }
}

#[tokio::test]
async fn a_debug_build_is_refused_by_what_it_says_of_itself_and_nothing_is_staged() {
    let folder = tempfile::tempdir().unwrap();
    let debug = saying(folder.path(), "orderflow 0.1.0 (debug build)");
    let out = folder.path().join("dist");
    let arguments = ["package", "--out", out.to_str().unwrap(), "--binary"];
    let (code, printed, errors) = output(orderflow(&arguments).arg(debug.to_str().unwrap())).await;
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{errors}");
    assert_eq!(
        errors,
        format!(
            "orderflow: {} is not for Azure: it is a debug build; build with infra/build-portable and package that, or \
             use --local to stage for `func start` on this machine\n",
            debug.display()
        )
    );
    assert!(!out.exists());
    assert!(root().join("infra/build-portable").is_file());
    // That is what the program under test says, too.
    let (_, version, _) = output(&mut orderflow(&["--version"])).await;
    assert!(version.ends_with(" (debug build)\n"), "{version}");
    let (code, _, errors) = output(&mut orderflow(&arguments[..3])).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains(" is not for Azure: it "), "{errors}");
}

#[tokio::test]
async fn what_is_staged_is_what_the_host_and_core_tools_want_and_works_in_a_clean_environment() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("dist");
    let former = out.join("invoicing");
    fs::create_dir_all(&former).unwrap();
    fs::write(former.join("function.json"), "{}").unwrap();
    let arguments = ["package", "--local", "--out", out.to_str().unwrap()];
    // Settings that would stop the handler, if it saw them.
    let mut command = orderflow(&arguments);
    command.envs([("STORE_URL", "nonsense:"), ("PAYMENT_PROVIDER", "nonsense")]);
    let (code, printed, errors) = output(&mut command).await;
    assert_eq!(code, Some(0), "{errors}");
    let count = FUNCTIONS.len();
    let answered = format!("{count} of {count} functions answered");
    assert!(printed.contains(&answered), "{printed}");
    assert!(printed.contains("func start --script-root"), "{printed}");
    assert!(!printed.contains("publish"), "not for Azure: {printed}");
    for file in ["host.json", "local.settings.json", "orderflow"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    for function in FUNCTIONS {
        let definition = out.join(function.name).join("function.json");
        assert!(definition.is_file(), "{}", definition.display());
    }
    let handler = fs::metadata(out.join("orderflow")).unwrap();
    assert_eq!(handler.permissions().mode() & 0o777, 0o755);
    assert!(!former.exists(), "a function that is no more");
    let ignored = fs::read_to_string(out.join(".funcignore")).unwrap();
    assert!(ignored.contains(".orderflow"), "no orders are published");
    assert!(
        !out.join("functions").exists(),
        "the host looks for functions beside host.json"
    );

    let onto_itself = ["package", "--local", "--out", "."];
    let (code, _, errors) = output(&mut orderflow(&onto_itself)).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("another folder than the repository's"),
        "{errors}"
    );
    let zipped = ["package", "--local", "--zip"];
    let (code, _, errors) = output(&mut orderflow(&zipped)).await;
    assert_eq!(code, Some(2), "a zip is for Azure: {errors}");
}

/// An app staged with the program under test.
async fn staged() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("dist");
    let arguments = ["package", "--local", "--untried", "--out"];
    let (code, printed, errors) = output(orderflow(&arguments).arg(&out)).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(printed.contains("not tried"), "{printed}");
    (folder, out)
}

/// What the trial of an app says that does not work, and the last words of its handler.
async fn failure(app: &Path) -> (String, String) {
    match trial::run(app).await {
        Err(TrialError::Failed {
            problem,
            last_words,
        }) => (problem, last_words),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_function_without_a_route_is_found() {
    let (_folder, out) = staged().await;
    let added = out.join("invoicing");
    fs::create_dir(&added).unwrap();
    let define = |trigger: serde_json::Value| {
        let definition = json!({ "bindings": [trigger] });
        fs::write(added.join("function.json"), definition.to_string()).unwrap();
    };
    define(json!({ "type": "eventGridTrigger", "direction": "in", "name": "event" }));
    let (problem, last_words) = failure(&out).await;
    assert!(
        problem.starts_with("the function invoicing: the handler answered 404"),
        "{problem}"
    );
    assert!(last_words.contains("ready"), "its log: {last_words}");
    define(json!({ "type": "timerTrigger", "name": "timer", "schedule": "0 0 * * * *" }));
    let (problem, _) = failure(&out).await;
    assert!(
        problem.contains("invoicing: the handler answered 404"),
        "{problem}"
    );
    define(
        json!({ "type": "httpTrigger", "name": "req", "methods": ["put"], "route": "invoices/{id}" }),
    );
    let (problem, _) = failure(&out).await;
    assert!(
        problem.contains("invoicing: the handler answered PUT /api/invoices/"),
        "{problem}"
    );
    define(json!({ "type": "queueTrigger", "name": "message" }));
    let not_understood = trial::run(&out).await.unwrap_err().to_string();
    assert!(
        not_understood.ends_with("was expected, and it is a queueTrigger"),
        "{not_understood}"
    );
    fs::remove_dir_all(added).unwrap();
    assert_eq!(trial::run(&out).await.unwrap().functions, FUNCTIONS.len());
}

#[tokio::test]
async fn a_function_that_can_make_nothing_of_what_invokes_it_is_found() {
    let (_folder, out) = staged().await;
    let definition = out.join("payment/function.json");
    let other = fs::read_to_string(&definition)
        .unwrap()
        .replace("eventGridTrigger", "timerTrigger");
    fs::write(definition, other).unwrap();
    let (problem, _) = failure(&out).await;
    assert!(
        problem.starts_with("the function payment: the sample was parked: specversion"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_handler_that_ends_is_reported_with_its_last_words() {
    let (_folder, out) = staged().await;
    let host = fs::read_to_string(out.join("host.json")).unwrap();
    let host = host.replace("[\"serve\"]", "[\"sevre\"]");
    fs::write(out.join("host.json"), host).unwrap();
    let (problem, last_words) = failure(&out).await;
    assert_eq!(problem, "the handler ended (exit status: 2)");
    assert!(last_words.contains("sevre"), "{last_words}");
}

#[tokio::test]
async fn an_app_that_does_not_work_makes_no_zip() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("dist");
    let broken = saying(folder.path(), "orderflow 0.1.0");
    let arguments = [
        "package",
        "--zip",
        "--out",
        out.to_str().unwrap(),
        "--binary",
    ];
    let (code, _, errors) = output(orderflow(&arguments).arg(broken)).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        errors,
        format!(
            "orderflow: {} does not work: the handler ended (exit status: 3); its last lines:\n    orderflow 0.1.0\n",
            out.display()
        )
    );
    assert!(
        out.join("orderflow").is_file(),
        "what did not work is left to be looked at"
    );
    assert!(!folder.path().join("dist.zip").exists());
}

/// The repository's parts that are packaged, as another user has them at another time.
fn elsewhere() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let released = Path::new("schemas/released");
    fs::create_dir_all(folder.path().join(released)).unwrap();
    for entry in fs::read_dir(root().join(released)).unwrap() {
        let entry = entry.unwrap();
        let copy = folder.path().join(released).join(entry.file_name());
        fs::copy(entry.path(), copy).unwrap();
    }
    for file in ["host.json", "local.settings.json", "README.md"] {
        fs::copy(root().join(file), folder.path().join(file)).unwrap();
    }
    artifacts::write(folder.path()).unwrap();
    let definition = folder.path().join("functions/billing/function.json");
    for file in [folder.path().join("host.json"), definition] {
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(&file).unwrap().set_modified(long_ago).unwrap();
    }
    folder
}

#[tokio::test]
async fn the_zip_has_what_is_deployed_and_the_same_bytes_every_time() {
    let folder = tempfile::tempdir().unwrap();
    let handler = saying(folder.path(), "orderflow 0.1.0");
    let elsewhere = elsewhere();
    let mut zips = Vec::new();
    for (name, root) in [("one", root()), ("another", elsewhere.path().to_owned())] {
        let out = folder.path().join(name);
        // What a handler that ran from there has left.
        fs::create_dir_all(out.join(".orderflow")).unwrap();
        fs::write(out.join(".orderflow/orders.db"), name).unwrap();
        let zip = folder.path().join(name).with_extension("zip");
        let package = Package {
            root,
            out,
            binary: handler.clone(),
            local: true,
            untried: true,
            zip: Some(zip.clone()),
        };
        let made = package.make().await.unwrap();
        let content = fs::read(zip).unwrap();
        assert_eq!(made.zip_size, Some(content.len() as u64));
        zips.push(content);
    }
    assert!(zips[0] == zips[1], "the same files, the same bytes");

    let mut zip = ZipArchive::new(std::io::Cursor::new(&zips[0])).unwrap();
    let mut expected: Vec<_> = FUNCTIONS
        .iter()
        .map(|function| format!("{}/function.json", function.name))
        .collect();
    expected.extend(["host.json", "orderflow"].map(str::to_owned));
    expected.sort();
    let mut names = Vec::new();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mode = if name == "orderflow" {
            0o100_755
        } else {
            0o100_644
        };
        assert_eq!(entry.unix_mode(), Some(mode), "{name}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let staged = fs::read(folder.path().join("one").join(&name)).unwrap();
        assert!(content == staged, "{name}");
        names.push(name);
    }
    assert_eq!(names, expected);
}
