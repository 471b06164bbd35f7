//! The schema: who brings it up to date, and what the service's own role may do with it.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::{PrepareError, connected};

/// Every migration, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// A connection of the service's role, with the schema up to date.
///
/// The `owner`, if there is one, brings it up to date and lets the service's role do what it must and
/// no more: it can add to the audit trail, and neither change it nor switch its triggers off.
pub(super) async fn migrated(
    service: PgConnectOptions,
    owner: Option<PgConnectOptions>,
) -> Result<PgConnection, PrepareError> {
    let Some(owner) = owner else {
        let mut connection = connected(service).await?;
        bring_up_to_date(&mut connection).await?;
        return Ok(connection);
    };
    migrate(owner, service.get_username()).await?;
    let mut connection = connected(service).await?;
    if owns_the_trail(&mut connection).await? {
        tracing::warn!(
            "MIGRATION_DATABASE_URL is set, and yet the role of DATABASE_URL owns the audit trail or \
             is a superuser: it could switch off what keeps the trail append-only"
        );
    }
    Ok(connection)
}

/// Brings the schema up to date as its owner, and lets the role `service` work with it.
pub(super) async fn migrate(owner: PgConnectOptions, service: &str) -> Result<(), PrepareError> {
    let mut connection = connected(owner).await?;
    bring_up_to_date(&mut connection).await?;
    grant(&mut connection, service).await?;
    Ok(connection.close().await?)
}

/// What is up to date already is left alone, so that a role suffices that may do nothing to it.
async fn bring_up_to_date(connection: &mut PgConnection) -> Result<(), PrepareError> {
    if !is_up_to_date(connection).await {
        MIGRATOR.run_direct(None, connection, false).await?;
    }
    Ok(())
}

async fn is_up_to_date(connection: &mut PgConnection) -> bool {
    let done: Result<Vec<(i64, Vec<u8>, bool)>, _> =
        sqlx::query_as("select version, checksum, success from _sqlx_migrations order by version")
            .fetch_all(connection)
            .await;
    let wanted = MIGRATOR
        .iter()
        .map(|migration| (migration.version, migration.checksum.to_vec(), true));
    // Whatever is wrong with it, the migrator says better.
    done.is_ok_and(|done| done.into_iter().eq(wanted))
}

/// First and second key of the advisory lock under which one portal after another grants.
const GRANT_LOCK: (i32, i32) = (0x006b_6579, 1);

async fn grant(connection: &mut PgConnection, service: &str) -> Result<(), PrepareError> {
    let mut transaction = connection.begin().await?;
    sqlx::query!(
        "select pg_advisory_xact_lock($1, $2)",
        GRANT_LOCK.0,
        GRANT_LOCK.1
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("select set_config('portal.service', $1, true)", service)
        .fetch_one(&mut *transaction)
        .await?;
    // Names cannot be parameters of GRANT. Every table and view is named, so that none gets more by
    // mistake. What a view shows is read by the rights of its owner; the view itself is asked for.
    sqlx::raw_sql(
        "do $$
        declare
            service constant text := current_setting('portal.service');
            named text;
            kind text;
        begin
            execute format('grant usage on schema public to %I', service);
            for named, kind in
                select relname, relkind::text from pg_class
                where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
            loop
                execute format('revoke all on public.%I from %I', named, service);
                execute format('grant %s on public.%I to %I', case
                    when kind = 'v' then 'select'
                    when named = 'audit_entry' then 'select, insert'
                    when named = 'audit_lane' then 'select, insert, update'
                    when named = 'audit_key' then 'select, insert, update'
                    when named = '_sqlx_migrations' then 'select'
                    else 'select, insert, update, delete'
                end, named, service);
            end loop;
            execute format('grant usage on all sequences in schema public to %I', service);
        end
        $$",
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn owns_the_trail(connection: &mut PgConnection) -> Result<bool, PrepareError> {
    Ok(sqlx::query_scalar!(
        r#"select pg_has_role(current_user, relowner, 'member') as "owns!"
           from pg_class where oid = 'audit_entry'::regclass"#
    )
    .fetch_one(connection)
    .await?)
}
