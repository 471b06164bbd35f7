//! Tenants and users by the thousand, written by SQL alone: through REST they would take minutes.
//! Their passwords are sealed as the portal seals them, so that it can use what it finds.

use api_server::clock::os_rng;
use api_server::domain::DeviceId;
use api_server::vault::{Place, Vault};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::portal::SECRET_KEY;

/// The lowest number of each tenant.
pub const FIRST_NUMBER: u32 = 10_000;

/// Tenants `NAME-1`, `NAME-2`, … of the default PBX with `users` users each, which have the lowest
/// numbers from [`FIRST_NUMBER`] and a device each. The portal must have made the schema.
pub async fn fill(
    connection: &mut PgConnection,
    name: &str,
    tenants: u32,
    users: u32,
) -> anyhow::Result<()> {
    add(connection, name, tenants, users).await?;
    sqlx::query("analyze").execute(connection).await?;
    Ok(())
}

/// Likewise, of which PostgreSQL does not know yet how many there are.
pub async fn add(
    connection: &mut PgConnection,
    name: &str,
    tenants: u32,
    users: u32,
) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query(
        "insert into tenant (
            tenant_id, pbx_id, slug, name, ext_min, ext_max, ext_free_from, created_at, updated_at
        )
        select gen_random_uuid(), p.pbx_id, $1 || '-' || n, initcap($1) || ' ' || n, $3, 99999,
            $3 + $4, now(), now()
        from pbx p, generate_series(1, $2) n where p.name = 'default'",
    )
    .bind(name)
    .bind(i32::try_from(tenants)?)
    .bind(i32::try_from(FIRST_NUMBER)?)
    .bind(i32::try_from(users)?)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        r#"insert into "user" (
            user_id, tenant_id, name, email, status, role, created_at, created_by, updated_at
        )
        select gen_random_uuid(), t.tenant_id,
            (array['Ann', 'Bob', 'Eve', 'Ivan', 'Olga', 'Petr', 'Zoe'])[1 + n % 7]
                || ' ' || initcap(substr(translate(md5(n::text), '0123456789', 'ghijklmnop'), 1, 9)),
            'user' || n || '@' || t.slug || '.example.org',
            case when n % 97 = 0 then 'suspended' else 'active' end,
            case when n % 89 = 0 then 'operator' else 'user' end,
            now() - n * interval '1 minute', 'somebody', now()
        from tenant t, generate_series(1, $2) n where t.slug like $1 || '-%'"#,
    )
    .bind(name)
    .bind(i32::try_from(users)?)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        r#"insert into extension (tenant_id, number, user_id, allocated_at)
        select u.tenant_id, $2 - 1 + row_number() over (
                partition by u.tenant_id order by u.created_at desc
            ), u.user_id, u.created_at
        from "user" u join tenant t using (tenant_id) where t.slug like $1 || '-%'"#,
    )
    .bind(name)
    .bind(i64::from(FIRST_NUMBER))
    .execute(&mut *transaction)
    .await?;
    devices(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

/// A device for everybody who has none.
async fn devices(connection: &mut PgConnection) -> anyhow::Result<()> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        r#"select user_id from "user" u
        where not exists (select from device d where d.user_id = u.user_id)"#,
    )
    .fetch_all(&mut *connection)
    .await?;
    let vault: Vault = SECRET_KEY.parse()?;
    let key = vault.sealer(&mut *connection).await?;
    let mut rng = os_rng();
    let mut sealed = Vec::with_capacity(users.len());
    for (number, user) in users.iter().enumerate() {
        let password = format!("abcdefghABCDEFGH{number:08}");
        let place = Place::SipPassword(DeviceId(*user));
        sealed.push(key.seal(place, password.as_bytes(), &mut rng)?);
    }
    sqlx::query(
        r#"insert into device (
            device_id, tenant_id, user_id, slot, label, sip_password_encrypted, password_set_at,
            enabled, created_at, created_by, updated_at
        )
        select u.user_id, u.tenant_id, u.user_id, 1,
            case when e.number % 101 = 0 then 'Headset' else 'Phone' end, new.sealed, now(),
            e.number % 103 <> 0, u.created_at, 'somebody', now()
        from unnest($1::uuid[], $2::bytea[]) as new (user_id, sealed)
        join "user" u using (user_id) join extension e using (user_id)"#,
    )
    .bind(users)
    .bind(sealed)
    .execute(connection)
    .await?;
    Ok(())
}
