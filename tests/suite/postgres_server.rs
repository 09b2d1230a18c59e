//! A PostgreSQL server of the tests' own: from the system's binaries, in a temporary folder, on a free port.

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio_postgres::NoTls;

/// The superuser's name and password. The password has characters that must be encoded in a URL.
const USER: &str = "tester";
pub const PASSWORD: &str = "s3cr3t/@:?";
const PASSWORD_IN_URL: &str = "s3cr3t%2F%40%3A%3F";

/// Waits for the end of its input, that is of the process that started it, however it ended. Then nothing remains.
const GUARD: &str = r#"read -r _; "$1/pg_ctl" -D "$2/data" -m immediate -W stop >"$2/guard.log" 2>&1; sleep 0.2; rm -rf "$2""#;

/// A running server, which ends with the process at the latest.
pub struct PostgresServer {
    binaries: PathBuf,
    folder: PathBuf,
    /// Whose processes they are: PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
    port: u16,
    options: String,
    guard: Child,
}

impl PostgresServer {
    /// The server that tests share, with a database for each of them; none if PostgreSQL is not installed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<PostgresServer>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                // The tests kill the server, never the machine.
                let server = Self::start("-c fsync=off");
                if server.is_none() {
                    let skipped = "skipped: what is proven on PostgreSQL, which is not installed (apt-get install postgresql)";
                    // Past the capture of the test's output.
                    drop(writeln!(std::io::stderr(), "{skipped}"));
                }
                server
            })
            .as_ref()
    }

    /// A server with these options; none if PostgreSQL is not installed and need not be.
    pub fn start(options: &str) -> Option<Self> {
        let Some(binaries) = binaries() else {
            let wanted = orderflow::config::environment("ORDERFLOW_TEST_POSTGRES");
            assert_ne!(
                wanted.as_deref(),
                Some("required"),
                "PostgreSQL is not installed, and ORDERFLOW_TEST_POSTGRES says that it must be"
            );
            return None;
        };
        let folder = tempfile::tempdir().unwrap().keep();
        let user = unprivileged_user();
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let mut guard = command(&PathBuf::from("/bin/sh"), user);
        guard
            .args(["-c", GUARD, "guard"])
            .args([&binaries, &folder]);
        let guard = guard
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Self {
            binaries,
            folder,
            user,
            port: free_port(),
            options: options.to_owned(),
            guard,
        };
        server.initialize();
        server.run();
        Some(server)
    }

    fn initialize(&self) {
        let password = self.folder.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut initdb = self.command("initdb");
        initdb
            .args(["--username", USER, "--auth", "scram-sha-256", "--no-sync"])
            .args(["--encoding", "UTF8", "--locale", "C", "--pwfile"])
            .arg(password);
        done(initdb.arg("--pgdata").arg(self.data()));
    }

    /// Starts it (again), and waits until it takes connections.
    pub fn run(&self) {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c max_connections=200 \
             -c shared_buffers=64MB {}",
            self.port,
            self.folder.display(),
            self.options
        );
        let mut start = self.command("pg_ctl");
        start
            .arg("--pgdata")
            .arg(self.data())
            .arg("--log")
            .arg(self.folder.join("log"));
        start.args(["--wait", "--options", &options, "start"]);
        // After a kill, the first process's children take a moment to end.
        let started = (0..100).any(|_| {
            let started = start.status().unwrap().success();
            if !started {
                std::thread::sleep(Duration::from_millis(50));
            }
            started
        });
        assert!(started, "{start:?}");
    }

    /// Stops it, `fast` (as an upgrade does) or `immediate` (as a crash does), and waits for it.
    pub fn stop(&self, mode: &str) {
        let mut stop = self.command("pg_ctl");
        stop.arg("--pgdata").arg(self.data());
        done(stop.args(["--wait", "--mode", mode, "stop"]));
    }

    /// Kills its first process with SIGKILL, upon which the others end.
    pub fn kill(&self) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        done(Command::new("kill").args(["-9", file.lines().next().unwrap()]));
    }

    /// A new database; its URL.
    pub async fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        self.execute("postgres", &format!("CREATE DATABASE {name}"))
            .await;
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Runs statements in a database.
    pub async fn execute(&self, database: &str, sql: &str) {
        execute(&self.url(database), sql).await;
    }

    /// The folder, for what the server is to read.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives a file to the server's user alone.
    pub fn give(&self, file: &Path) {
        if let Some((user, group)) = self.user {
            chown(file, Some(user), Some(group)).unwrap();
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn command(&self, name: &str) -> Command {
        command(&self.binaries.join(name), self.user)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// Runs statements in the database of a URL.
pub async fn execute(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// One number out of the database of a URL.
pub async fn number(url: &str, sql: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// Where the newest version's programs are: Debian puts each version into a folder of its own, others into the path.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .max();
    newest.or_else(|| {
        let path = orderflow::config::environment("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    })
}

/// Someone else, for root: the package's user, or nobody.
fn unprivileged_user() -> Option<(u32, u32)> {
    let output = Command::new("id").arg("-u").output().unwrap();
    if output.stdout != b"0\n" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let user = |name: &str| {
        let line = users
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(1);
        let mut field = || fields.next()?.parse().ok();
        Some((field()?, field()?))
    };
    Some(user("postgres").or_else(|| user("nobody")).unwrap())
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[track_caller]
fn done(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap().port()
}
