//! Whoever can write to the database, as its superuser, with the triggers off, but without the key:
//! whatever is done to the trail is found, and it is said where.

use anyhow::{Context as _, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tests::lab::PortalLab;
use tests::scratch::Scratch;

use super::{faults, heads, since_head, verify, verify_program};

/// A trail of one lane, and a copy of it to go back to.
struct Trail {
    lab: PortalLab,
    pool: PgPool,
    /// How many entries.
    length: i64,
}

impl Trail {
    async fn new() -> anyhow::Result<Self> {
        let lab = PortalLab::start().await?;
        for number in 0..4 {
            let metadata =
                json!({ "n": number, "ü": [1.0, 1e5, -0.0, null], "b": {"z": 1, "a": 2} });
            let email = format!("user{number}@example.org");
            let body = json!({ "name": "Ann Ö. 🦀", "email": email, "metadata": metadata });
            lab.client.post("/users", &body).await?.expect(201)?;
        }
        let pool = lab.database.pool().await?;
        sqlx::raw_sql(
            "create table kept as select * from audit_entry;
             create table kept_lane as select * from audit_lane",
        )
        .execute(&pool)
        .await?;
        let length = sqlx::query_scalar("select position from audit_lane")
            .fetch_one(&pool)
            .await?;
        Ok(Self { lab, pool, length })
    }

    /// Does something to it behind the portal's back.
    async fn tamper(&self, sql: &str) -> anyhow::Result<()> {
        for table in ["audit_entry", "audit_lane"] {
            self.sql(&format!("alter table {table} disable trigger user"))
                .await?;
        }
        self.sql(sql).await
    }

    async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&self.pool)
            .await
            .with_context(|| sql.to_owned())?;
        Ok(())
    }

    async fn put_back(&self) -> anyhow::Result<()> {
        self.tamper(
            "delete from audit_entry; insert into audit_entry select * from kept;
             delete from audit_lane; insert into audit_lane overriding system value
                select * from kept_lane",
        )
        .await?;
        ensure!(self.faults().await?.is_empty(), "not put back");
        Ok(())
    }

    async fn faults(&self) -> anyhow::Result<Vec<String>> {
        faults(&verify(&self.lab.database.url).await?)
    }

    /// The faults that are found once this was done to it, which is then undone.
    async fn found_after(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        self.tamper(sql).await?;
        let found = self.faults().await?;
        self.put_back().await?;
        Ok(found)
    }

    async fn id(&self, position: i64) -> anyhow::Result<String> {
        let id: uuid::Uuid =
            sqlx::query_scalar("select audit_entry_id from kept where position = $1")
                .bind(position)
                .fetch_one(&self.pool)
                .await?;
        Ok(id.to_string())
    }

    /// What is said of an entry.
    async fn said(&self, position: i64, what: &str) -> anyhow::Result<String> {
        let id = self.id(position).await?;
        Ok(format!("lane 1, position {position}, entry {id}: {what}"))
    }
}

const CHANGED: &str = "changed entry";
const FORGED: &str = "forged entry: no portal wrote it there";

#[tokio::test]
async fn a_change_of_any_column_is_found_at_its_place() -> anyhow::Result<()> {
    let trail = Trail::new().await?;
    assert!(trail.length >= 8, "{}", trail.length);
    let columns: Vec<String> = sqlx::query_scalar(
        "select column_name from information_schema.columns
         where table_schema = 'public' and table_name = 'audit_entry'",
    )
    .fetch_all(&trail.pool)
    .await?;
    assert_eq!(
        columns.len(),
        20,
        "{columns:?}: a column that is not tried here"
    );
    let zero = "00000000-0000-0000-0000-000000000000";
    for (column, value) in [
        ("audit_entry_id", "gen_random_uuid()".to_owned()),
        ("at", "at + interval '1 microsecond'".to_owned()),
        ("actor_kind", "'portal'".to_owned()),
        ("actor_id", format!("'{zero}'")),
        ("actor_name", "'nobody'".to_owned()),
        ("credential_id", format!("'{zero}'")),
        ("action", "'user.deleted'".to_owned()),
        ("entity_type", "'device'".to_owned()),
        ("entity_id", "'x'".to_owned()),
        ("entity_name", "null".to_owned()),
        ("tenant_id", "null".to_owned()),
        ("pbx_ids", "'{}'".to_owned()),
        ("before", "'{}'".to_owned()),
        ("after", "jsonb_set(after, '{name}', '\"Eve\"')".to_owned()),
        ("after", "null".to_owned()),
        ("source_address", "'192.0.2.1'".to_owned()),
        ("request_id", "null".to_owned()),
        (
            "previous_hash",
            "decode(repeat('11', 32), 'hex')".to_owned(),
        ),
    ] {
        let sql = format!("update audit_entry set {column} = {value} where position = 4");
        trail.tamper(&sql).await?;
        let found = trail.faults().await?;
        let id: uuid::Uuid =
            sqlx::query_scalar("select audit_entry_id from audit_entry where position = 4")
                .fetch_one(&trail.pool)
                .await?;
        let said = format!("lane 1, position 4, entry {id}: {CHANGED}");
        assert_eq!(found, [said], "{sql}");
        trail.put_back().await?;
    }
    // A hash that is another one: nobody can have written that.
    let sql = "update audit_entry set hash = decode(repeat('11', 32), 'hex') where position = 4";
    assert_eq!(
        trail.found_after(sql).await?,
        [trail.said(4, FORGED).await?]
    );
    // The first one, and the last one, which has none behind it.
    let sql = "update audit_entry set actor_name = 'x' where position = 1";
    assert_eq!(
        trail.found_after(sql).await?,
        [trail.said(1, CHANGED).await?]
    );
    let last = trail.length;
    let sql = format!("update audit_entry set actor_name = 'x' where position = {last}");
    let what = "changed or forged entry: the last one, so that none tells which";
    assert_eq!(
        trail.found_after(&sql).await?,
        [trail.said(last, what).await?]
    );
    Ok(())
}

#[tokio::test]
async fn what_is_missing_moved_or_added_is_found_at_its_place() -> anyhow::Result<()> {
    let trail = Trail::new().await?;
    let last = trail.length;
    let cases = [
        (
            "delete from audit_entry where position = 4".to_owned(),
            vec!["lane 1, position 4: missing: 1 before the next entry".to_owned()],
        ),
        (
            "delete from audit_entry where position < 4".to_owned(),
            vec!["lane 1, position 1: missing: 3 before the next entry".to_owned()],
        ),
        (
            format!("delete from audit_entry where position > {}", last - 2),
            vec![format!(
                "lane 1, position {}: removed from the end: 2",
                last - 1
            )],
        ),
        (
            "delete from audit_entry".to_owned(),
            vec![format!("lane 1, position 1: removed from the end: {last}")],
        ),
        (
            "update audit_entry set position = case position when 3 then 905 else 903 end
                where position in (3, 5);
             update audit_entry set position = position - 900 where position > 900"
                .to_owned(),
            Vec::new(),
        ),
        // One that stands for another, with everything of it that an attacker can make.
        (
            "update audit_entry set audit_entry_id = gen_random_uuid(), actor_name = 'eve',
                hash = sha256('x') where position = 4"
                .to_owned(),
            Vec::new(),
        ),
    ];
    for (sql, said) in cases {
        let found = trail.found_after(&sql).await?;
        if said.is_empty() {
            assert!(
                found.iter().all(|fault| fault.ends_with(FORGED)),
                "{sql}: {found:?}"
            );
            let places: Vec<&str> = found.iter().filter_map(|f| f.split(',').nth(1)).collect();
            let expected: &[&str] = if sql.contains("eve") {
                &[" position 4"]
            } else {
                &[" position 3", " position 5"]
            };
            assert_eq!(places, expected, "{sql}");
        } else {
            assert_eq!(found, said, "{sql}");
        }
    }
    Ok(())
}

/// A row of an attacker, who has no key.
const FORGE: &str = "insert into audit_entry (
        audit_entry_id, lane, position, previous_hash, hash, at, actor_kind, actor_name, action,
        entity_type, entity_id, pbx_ids
    )
    select gen_random_uuid(), lane, position + 1, hash, sha256('forged'), now(), 'account', 'ann',
        'user.deleted', 'user', 'x', '{}'
    from audit_lane";

#[tokio::test]
async fn what_is_added_at_the_end_is_found_with_and_without_its_head() -> anyhow::Result<()> {
    let trail = Trail::new().await?;
    let next = trail.length + 1;
    let alone = trail.found_after(FORGE).await?;
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(
        alone[0].starts_with(&format!("lane 1, position {next}, entry ")),
        "{alone:?}"
    );
    assert!(alone[0].ends_with(FORGED), "{alone:?}");
    let with_head =
        format!("{FORGE}; update audit_lane set position = position + 1, hash = sha256('forged')");
    let found = trail.found_after(&with_head).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains(&format!("position {next}, ")),
        "{found:?}"
    );
    // A lane of its own.
    let own = FORGE.replace("lane, position + 1", "77, 1");
    let found = trail.found_after(&own).await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("lane 77, position 1, entry "),
        "{found:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_head_that_is_not_what_it_was_is_found() -> anyhow::Result<()> {
    let trail = Trail::new().await?;
    let last = trail.length;
    for (sql, said) in [
        (
            "update audit_lane set position = position - 2".to_owned(),
            format!(
                "lane 1, position {}: the head was moved back behind this entry",
                last - 1
            ),
        ),
        (
            "update audit_lane set hash = sha256('x')".to_owned(),
            format!("lane 1, position {last}: the head has another hash than the last entry"),
        ),
        (
            "delete from audit_lane".to_owned(),
            format!("lane 1, position {last}: the head is missing"),
        ),
    ] {
        assert_eq!(trail.found_after(&sql).await?, [said], "{sql}");
    }
    // Another key: then nothing is as it was written.
    let other = verify_program(&trail.lab.database.url)?
        .env("SECRET_KEY", "11".repeat(32))
        .run(super::DEADLINE)
        .await?;
    assert_eq!(other.status.code(), Some(1), "{other:?}");
    assert!(!other.stdout.contains("as they were written"), "{other:?}");
    Ok(())
}

/// Cutting the end off together with the head, so that the rest is a chain that agrees with itself, is
/// found by whoever kept a head.
#[tokio::test]
async fn a_head_that_was_kept_tells_what_was_cut_off_or_written_anew() -> anyhow::Result<()> {
    let trail = Trail::new().await?;
    let url = &trail.lab.database.url;
    let scratch = Scratch::new("heads")?;
    let program = since_head(url, &scratch, &heads(&verify(url).await?))?;
    let since = async || faults(&program.clone().run(super::DEADLINE).await?);
    assert!(since().await?.is_empty());
    // It grows, and the head is still there.
    trail.lab.create_user("Bob", "bob@example.org").await?;
    assert!(since().await?.is_empty());

    let last = trail.length;
    let cut = format!(
        "delete from audit_entry where position > {0};
         update audit_lane set position = {0},
            hash = (select hash from audit_entry where position = {0})",
        last - 2
    );
    trail.tamper(&cut).await?;
    assert!(
        trail.faults().await?.is_empty(),
        "a cut end agrees with itself"
    );
    let said = format!(
        "lane 1, position {last}: removed from the end, with the head: one was kept for this \
         position"
    );
    assert_eq!(since().await?, [said]);
    // Whoever has the key as well can go on from there, but not to the same hash.
    for number in 0..2 {
        let email = format!("anew{number}@example.org");
        trail.lab.create_user("Anew", &email).await?;
    }
    assert!(trail.faults().await?.is_empty());
    let found = since().await?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("not the entry of which the head was kept"),
        "{found:?}"
    );

    let scratch = Scratch::new("no heads")?;
    let refused = since_head(url, &scratch, "nothing of the kind")?;
    let refused = refused.run(super::DEADLINE).await?;
    assert!(refused.stderr.contains("holds no head"), "{refused:?}");
    Ok(())
}
