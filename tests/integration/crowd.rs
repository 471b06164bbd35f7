//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::PgPool;
use tests::lab::{NewUser, create_user};
use tests::portal::Client;
use tokio::task::JoinSet;

/// How many clients fill a database: more would only wait for each other.
const WORKERS: usize = 8;

/// Runs `work(0)`, …, `work(count - 1)` on `workers` tasks and returns all results, in no order.
pub(crate) async fn at_once<T, W, F>(
    workers: usize,
    count: usize,
    work: W,
) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    W: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<T>> + Send,
{
    let (work, next) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (work, next) = (Arc::clone(&work), Arc::clone(&next));
        tasks.spawn(async move {
            let mut results = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(results);
                }
                results.push(work(number).await?);
            }
        });
    }
    let mut results = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        results.extend(ended??);
    }
    Ok(results)
}

/// Creates `count` users over REST.
pub(crate) async fn create_users(client: &Client, count: usize) -> anyhow::Result<Vec<NewUser>> {
    let client = client.clone();
    let create = move |number: usize| {
        let client = client.clone();
        async move {
            let email = format!("user{number}@example.org");
            create_user(&client, &format!("User {number}"), &email).await
        }
    };
    at_once(WORKERS, count, create).await
}

/// The extensions of `users`, sorted.
pub(crate) fn numbers(users: &[NewUser]) -> Vec<u64> {
    let mut numbers: Vec<u64> = users.iter().map(|user| user.extension).collect();
    numbers.sort_unstable();
    numbers
}

/// Every number in the table `extension` whose user lives, sorted: what the database says, not
/// what replies said.
pub(crate) async fn stored_numbers(pool: &PgPool) -> anyhow::Result<Vec<u64>> {
    let numbers: Vec<i32> = sqlx::query_scalar(
        r#"select e.number from extension e join "user" u using (tenant_id, user_id)
           where u.deleted_at is null order by e.number"#,
    )
    .fetch_all(pool)
    .await?;
    Ok(numbers
        .into_iter()
        .map(u64::try_from)
        .collect::<Result<_, _>>()?)
}
