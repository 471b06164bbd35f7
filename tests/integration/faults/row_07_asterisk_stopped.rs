//! Row 7: Asterisk is stopped. That is a class of its own; the database stays as it is, and the new
//! files stay by whatever policy: Asterisk reads them when it starts. See also the edge case of the
//! specification.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::lab::Lab;
use tests::phones::Call;

use crate::audit::{applied, audited};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files};

/// The new files are in force when Asterisk starts, and phones work without another apply.
#[tokio::test]
async fn asterisk_comes_back_with_what_was_applied_while_it_was_down() -> anyhow::Result<()> {
    for policy in ["roll_back", "keep_new_files"] {
        let mut lab = Lab::builder()
            .portal_env("ON_RELOAD_FAILURE", policy)
            .start()
            .await?;
        let users = create_users(&lab.client, 2).await?;
        applied(&lab.client, lab.apply().await?).await?;
        let old = live_files(&lab.asterisk)?;
        // Crashed: its control socket is still there.
        lab.asterisk.kill();
        let late = lab.create_user("Late", "late@example.org").await?;
        let reply = lab.apply().await?;
        ensure!(
            reply.problem(502)? == "apply_reload_failed_files_kept",
            "{policy}: {reply}"
        );
        let attempt = audited(&lab.client, &reply).await?;
        let said = attempt["failure"]["message"].as_str().unwrap_or_default();
        ensure!(said.contains("not running"), "{policy}: {said}");
        let new = live_files(&lab.asterisk)?;
        ensure!(new != old && new[1].contains("1002"), "{policy}: {new:?}");
        // Said until it is proven.
        let warnings = lab.client.get("/health/ready").await?.json()?["warnings"].to_string();
        ensure!(warnings.contains("was not proven"), "{policy}: {warnings}");

        lab.asterisk.resume().await?;
        ensure!(
            live_files(&lab.asterisk)? == new,
            "{policy}: the files changed at the start"
        );
        assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
        let online = lab.phone(&late)?.online().await?;
        let caller = users.first().context("nobody")?;
        let call = lab
            .phone(caller)?
            .call(&late.sip_username, Duration::ZERO)
            .await?;
        ensure!(
            matches!(call, Call::Completed { .. }) && online.calls() == 1,
            "{policy}: {call:?}"
        );
        applied(&lab.client, lab.apply().await?).await?;
    }
    Ok(())
}
