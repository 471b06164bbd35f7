//! "What happens when extension pool (1000-1999) is exhausted? System must reject user creation with
//! clear error message."

use serde_json::json;
use tests::lab::PortalLab;

use crate::crowd::{at_once, create_users, numbers, stored_numbers};

#[tokio::test]
async fn extension_pool_exhausted_rejects_and_stores_nobody() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = create_users(&lab.client, 1000).await?;
    let pool = lab.database.pool().await?;
    for user in &users[..3] {
        lab.client
            .delete(&format!("/users/{}", user.id))
            .await?
            .expect(204)?;
    }
    // Twenty want the three that are free.
    let client = lab.client.clone();
    let rush = move |number: usize| {
        let client = client.clone();
        async move {
            let email = format!("rush{number}@example.org");
            let reply = client
                .post("/users", &json!({ "name": "Rush", "email": email }))
                .await?;
            if reply.status == 201 {
                return Ok(reply.json()?["extension"].as_u64());
            }
            assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
            Ok(None)
        }
    };
    let mut given: Vec<u64> = at_once(20, 20, rush).await?.into_iter().flatten().collect();
    given.sort_unstable();
    assert_eq!(given, numbers(&users[..3]));
    assert_eq!(
        stored_numbers(&pool).await?,
        (1000..=1999).collect::<Vec<_>>()
    );
    let living: i64 = sqlx::query_scalar(r#"select count(*) from "user" where deleted_at is null"#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(living, 1000);
    Ok(())
}
