//! A private PostgreSQL cluster, a database per test.
//!
//! A cluster listens on a Unix socket alone, in a directory that only its account (and root) may
//! enter; that is what makes `trust` safe there.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio::sync::OnceCell;

use crate::process::{Account, Process, Program};
use crate::scratch::{self, Place};

/// The oldest PostgreSQL that the portal supports.
const MAJOR_VERSION_MIN: u32 = 14;

/// Starting includes crash recovery of a demonstration that was killed.
const START_DEADLINE: Duration = Duration::from_mins(1);

const INITDB_DEADLINE: Duration = Duration::from_mins(2);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// The superuser of every cluster.
const USER: &str = "portal";

/// Whether a cluster must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// Yes: PostgreSQL's own settings.
    Durable,
    /// No: it is thrown away with the process.
    Temporary,
}

/// A PostgreSQL cluster of one's own, which ends with this value.
pub struct Cluster {
    place: Place,
    bin: PathBuf,
    account: Option<Account>,
    durability: Durability,
    process: Option<Process>,
}

impl Cluster {
    /// A fresh cluster for one test, which may stop and start it. For tests that only need a
    /// database: [`TestDatabase::create`].
    pub async fn temporary() -> anyhow::Result<Self> {
        Self::in_place(Place::temporary("pg")?, Durability::Temporary).await
    }

    /// The cluster in `dir`, created if there is none, and started.
    pub async fn kept_in(dir: &Path) -> anyhow::Result<Self> {
        Self::in_place(Place::Kept(dir.to_owned()), Durability::Durable).await
    }

    async fn in_place(place: Place, durability: Durability) -> anyhow::Result<Self> {
        let mut cluster = Self {
            place,
            bin: binaries()?,
            // initdb refuses to run as root.
            account: Account::of("postgres").or_else(|| Account::of("nobody")),
            durability,
            process: None,
        };
        if !cluster.data().join("PG_VERSION").exists() {
            cluster.initialise().await?;
        }
        cluster.start().await?;
        Ok(cluster)
    }

    /// Where it keeps everything, its log included.
    pub fn dir(&self) -> &Path {
        self.place.path()
    }

    fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    fn sockets(&self) -> PathBuf {
        self.place.path().join("run")
    }

    async fn initialise(&self) -> anyhow::Result<()> {
        scratch::directory(self.place.path(), 0o711)?;
        // What an interrupted initdb left would make the next one refuse.
        std::fs::remove_dir_all(self.data()).ok();
        for dir in [self.data(), self.sockets()] {
            scratch::directory(&dir, 0o700)?;
            if let Some(account) = self.account {
                account.own(&dir)?;
            }
        }
        let initdb = Program::new(self.bin.join("initdb"))
            .account(self.account)
            .arg("-D")
            .arg(self.data())
            .args(["-U", USER, "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        let initdb = match self.durability {
            Durability::Temporary => initdb.arg("--no-sync"),
            Durability::Durable => initdb,
        };
        initdb
            .run(INITDB_DEADLINE)
            .await?
            .success()
            .with_context(|| format!("initdb in {}", self.place.path().display()))?;
        Ok(())
    }

    /// Starts it again after [`Cluster::stop`] or [`Cluster::kill`], and waits until it answers.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        // SIGQUIT lets PostgreSQL remove its shared memory even when this process is killed.
        let mut server = Program::new(self.bin.join("postgres"))
            .account(self.account)
            .last_signal(Signal::SIGQUIT)
            .arg("-D")
            .arg(self.data());
        let sockets = self.sockets().display().to_string();
        let mut settings = vec![
            ("listen_addresses", ""),
            ("unix_socket_directories", &sockets),
            ("unix_socket_permissions", "0700"),
            ("max_connections", "400"),
        ];
        if self.durability == Durability::Temporary {
            settings.extend([("fsync", "off"), ("full_page_writes", "off")]);
        }
        for (name, value) in settings {
            server = server.arg("-c").arg(format!("{name}={value}"));
        }
        let mut process = server.start(&self.log())?;
        let url = self.url("postgres");
        let answers = async || PgConnection::connect(&url).await.is_ok();
        process
            .wait_until("PostgreSQL answers", START_DEADLINE, answers)
            .await?;
        self.process = Some(process);
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("postgres.log")
    }

    /// Ends every session and stops it.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGINT, STOP_DEADLINE).await?;
        }
        Ok(())
    }

    /// Ends it without any tidying up, as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGQUIT, STOP_DEADLINE).await?;
        }
        Ok(())
    }

    /// Stops every process of it without ending them: connections stay open and say nothing.
    /// `SIGCONT` lets them go on.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("PostgreSQL is stopped")?;
        for pid in children(process.pid())? {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
        }
        process.signal(signal)
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// The `DATABASE_URL` of `database`.
    pub fn url(&self, database: &str) -> String {
        let sockets = self.sockets();
        format!(
            "postgres://{USER}@localhost/{database}?host={}",
            sockets.display()
        )
    }

    /// Creates `database` unless it is there.
    pub async fn ensure_database(&self, database: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let there: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(database)
                .fetch_one(&mut connection)
                .await?;
        if !there {
            execute(&mut connection, &format!("create database {database}")).await?;
        }
        Ok(())
    }
}

/// The cluster that all tests of this process share.
pub async fn shared() -> anyhow::Result<&'static Cluster> {
    static SHARED: OnceCell<Cluster> = OnceCell::const_new();
    SHARED.get_or_try_init(Cluster::temporary).await
}

/// A fresh, empty database, dropped with this value.
pub struct TestDatabase {
    name: String,
    admin_url: String,
    /// What goes into `DATABASE_URL`.
    pub url: String,
}

impl TestDatabase {
    /// A database in the shared cluster.
    pub async fn create() -> anyhow::Result<Self> {
        Self::create_in(shared().await?).await
    }

    /// A database in `cluster`.
    pub async fn create_in(cluster: &Cluster) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.ensure_database(&name).await?;
        Ok(Self {
            url: cluster.url(&name),
            admin_url: cluster.url("postgres"),
            name,
        })
    }

    /// Connections of the test's own, to look at what the portal has written.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        Ok(PgPool::connect(&self.url).await?)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // In the background, and without caring: the cluster may be gone, and goes at the end.
        let order = (self.admin_url.clone(), self.name.clone());
        dropper().send(order).ok();
    }
}

/// The thread that drops databases: `Drop` cannot wait for the server.
fn dropper() -> mpsc::Sender<(String, String)> {
    static DROPPER: std::sync::OnceLock<mpsc::Sender<(String, String)>> =
        std::sync::OnceLock::new();
    let sender = DROPPER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<(String, String)>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let Ok(runtime) = runtime else { return };
            for (url, name) in orders {
                runtime.block_on(async {
                    if let Ok(mut connection) = PgConnection::connect(&url).await {
                        let sql = format!("drop database if exists {name} with (force)");
                        execute(&mut connection, &sql).await.ok();
                    }
                });
            }
        });
        sender
    });
    sender.clone()
}

/// Runs SQL that names a database, which cannot be a parameter; the harness made the name.
async fn execute(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map(|_| ())
}

fn children(pid: u32) -> anyhow::Result<Vec<i32>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The newest PostgreSQL of the machine: where Debian and Ubuntu keep it, else what `PATH` has.
fn binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            bin.join("initdb").exists().then_some((version, bin))
        });
    if let Some((version, bin)) = versions.max() {
        if version < MAJOR_VERSION_MIN {
            bail!("PostgreSQL {version} is too old: {MAJOR_VERSION_MIN} or newer is needed");
        }
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .context("no PostgreSQL server on this machine: ./run and ./test install it")
}
