//! A build without a database checks its queries against `api-server/.sqlx`. That must be what a
//! fresh database says, and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use api_server::db::MIGRATOR;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};
use tests::postgres::TestDatabase;

fn files(dir: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn the_query_data_is_what_postgresql_says_and_every_query_is_still_used() -> anyhow::Result<()>
{
    let api_server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-server");
    let mut source = String::new();
    for file in files(&api_server.join("src"), "rs")? {
        source.push_str(&std::fs::read_to_string(file)?);
    }
    let database = TestDatabase::create().await?;
    let mut connection = PgConnection::connect(&database.url).await?;
    MIGRATOR.run(&mut connection).await?;

    let recorded = files(&api_server.join(".sqlx"), "json")?;
    ensure!(!recorded.is_empty(), "there is no query data");
    for file in recorded {
        let data: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let query = data["query"].as_str().context("a query")?;
        ensure!(
            source.contains(query),
            "{} is of no query any more",
            file.display()
        );
        let query = AssertSqlSafe(query.to_owned()).into_sql_str();
        let said = connection.describe(query).await?;
        assert_eq!(
            serde_json::to_value(said)?,
            data["describe"],
            "{}",
            file.display()
        );
    }
    Ok(())
}
