//! "What happens if two Apply actions are called simultaneously? System must serialize Apply
//! operations to prevent race conditions and config corruption." Fifty of them: row 17 of `faults`.

use tests::lab::Lab;

use crate::audit::{assert_one_after_another, audited};
use crate::crowd::create_users;
use crate::held::assert_exactly;

#[tokio::test]
async fn two_simultaneous_applies_run_one_after_the_other() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let other = lab.another_portal().await?;
    let client = other.client()?;
    create_users(&lab.client, 20).await?;
    let (one, two) = tokio::join!(lab.apply(), client.post_nothing("/apply"));
    let one = audited(&lab.client, &one?.expect(200)?).await?;
    // Either portal knows the whole trail.
    let two = audited(&lab.client, &two?.expect(200)?).await?;
    let mut outcomes = [&one, &two].map(|attempt| attempt["outcome"].as_str().unwrap_or_default());
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["applied", "unchanged"]);
    assert_one_after_another(&[one, two])?;
    assert_exactly(&lab.asterisk, 1000..1020).await
}
