//! What the database holds, in one value: whether anything was changed.

use std::collections::BTreeMap;

use anyhow::Context as _;
use sqlx::PgPool;

/// Tables that requests, or time alone, may touch without changing anything, and why.
const RESTLESS: [(&str, &str); 8] = [
    ("api_token", "when and from where it was used last"),
    ("audit_entry", "refusals are in the trail"),
    ("audit_lane", "so is how far it is"),
    ("known_address", "when somebody came from there last"),
    ("pbx_event", "agents that come and go"),
    ("session", "when it was used last"),
    ("sign_in_failure", "how often somebody failed"),
    ("signing_key", "made when it is needed first"),
];

/// A hash of the rows of each table.
pub(super) async fn state(pool: &PgPool) -> anyhow::Result<BTreeMap<String, String>> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await?;
    let mut state = BTreeMap::new();
    for table in tables {
        if RESTLESS.iter().any(|(name, _)| *name == table) {
            continue;
        }
        let query = format!(
            "select coalesce(md5(string_agg(row, '' order by row)), '')
             from (select md5(t::text) as row from \"{table}\" t) rows"
        );
        let hash = sqlx::query_scalar(sqlx::AssertSqlSafe(query));
        let hash: String = hash.fetch_one(pool).await.with_context(|| table.clone())?;
        state.insert(table, hash);
    }
    Ok(state)
}
