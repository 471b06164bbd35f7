//! The plans of the statements that PostgreSQL has executed, from its log (`auto_explain`).

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tests::postgres::Cluster;

/// Tables that grow with what people do. Whoever reads one of them from end to end pays for everybody.
const LARGE: &[&str] = &[
    "user",
    "extension",
    "device",
    "tenant",
    "apply",
    "apply_change",
    "audit_entry",
    "audit_pending",
    "pbx_event",
    "idempotency_key",
];

/// Has every later session of a database write down what it executes, and how.
pub(super) async fn write_down(cluster: &Cluster, database: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await?;
    for (name, value) in [
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_analyze", "on"),
        ("auto_explain.log_timing", "off"),
        ("auto_explain.log_nested_statements", "on"),
        ("auto_explain.log_format", "json"),
    ] {
        let sql = format!("alter database {database} set {name} = '{value}'");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
    }
    Ok(())
}

/// Reads what was written down.
pub(super) struct Log {
    file: PathBuf,
    read: usize,
}

impl Log {
    /// From here on.
    pub(super) fn of(cluster: &Cluster) -> anyhow::Result<Self> {
        let mut log = Self {
            file: cluster.dir().join("postgres.log"),
            read: 0,
        };
        log.executed()?;
        Ok(log)
    }

    /// What was executed since the last question.
    pub(super) fn executed(&mut self) -> anyhow::Result<Vec<Executed>> {
        let text = read(&self.file, self.read)?;
        self.read += text.len();
        let text = String::from_utf8(text)?;
        let mut lines = text.lines().peekable();
        let mut executed = Vec::new();
        while let Some(line) = lines.next() {
            if !line.ends_with("  plan:") {
                continue;
            }
            // A message goes on in lines that begin with a tab.
            let mut json = String::new();
            while let Some(more) = lines.next_if(|line| line.starts_with('\t')) {
                json.push_str(more);
            }
            let said: Value = serde_json::from_str(&json).context("a plan")?;
            executed.push(Executed(said));
        }
        Ok(executed)
    }
}

fn read(file: &Path, from: usize) -> anyhow::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(u64::try_from(from)?))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A statement with the plan by which it was executed.
pub(super) struct Executed(Value);

impl Executed {
    /// The statement.
    pub(super) fn statement(&self) -> &str {
        self.0["Query Text"].as_str().unwrap_or_default()
    }

    /// How many rows of tables and indexes it looked at.
    pub(super) fn looked_at(&self) -> u64 {
        let mut most = 0;
        each(&self.0["Plan"], &mut |node| most += looked_at(node));
        most
    }

    /// Tables that it read from end to end, of those that grow.
    pub(super) fn read_whole(&self) -> Vec<String> {
        let mut found = Vec::new();
        each(&self.0["Plan"], &mut |node| {
            let relation = node["Relation Name"].as_str().unwrap_or_default();
            if node["Node Type"] == "Seq Scan" && LARGE.contains(&relation) {
                found.push(relation.to_owned());
            }
        });
        found
    }
}

impl std::fmt::Display for Executed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.statement())?;
        outline(&self.0["Plan"], 1, f)
    }
}

/// A node for each line, with what one wants to know of it.
fn outline(node: &Value, depth: usize, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    write!(f, "{:1$}", "", depth * 2)?;
    for key in [
        "Node Type",
        "Index Name",
        "Relation Name",
        "Index Cond",
        "Recheck Cond",
        "Filter",
        "Rows Removed by Filter",
        "Rows Removed by Index Recheck",
        "Plan Rows",
        "Actual Rows",
        "Actual Loops",
    ] {
        if let Some(value) = node.get(key) {
            write!(f, "{key}: {value}; ")?;
        }
    }
    writeln!(f)?;
    let children = node["Plans"].as_array().into_iter().flatten();
    for child in children {
        outline(child, depth + 1, f)?;
    }
    Ok(())
}

/// Calls `visit` with each node of a plan.
fn each(node: &Value, visit: &mut impl FnMut(&Value)) {
    visit(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        each(child, visit);
    }
}

/// How many rows a node took from a table or an index, or joined in vain.
fn looked_at(node: &Value) -> u64 {
    let count = |key: &str| node[key].as_u64().unwrap_or_default();
    let mut rows = count("Rows Removed by Filter")
        + count("Rows Removed by Index Recheck")
        + count("Rows Removed by Join Filter");
    if node["Node Type"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("Scan"))
    {
        rows += count("Actual Rows");
    }
    rows * count("Actual Loops")
}
