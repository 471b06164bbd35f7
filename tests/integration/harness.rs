//! The harness itself, where a fault in it would make other tests say something untrue.

use std::time::Duration;

use sqlx::Connection as _;
use tests::asterisk::{Asterisk, Settings};
use tests::phones::Phone;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;
use tests::scratch;

const RULES: &str = "[1000]
type = endpoint
context = synergy-internal
disallow = all
allow = ulaw,alaw
direct_media = no
rewrite_contact = yes
auth = 1000
aors = 1000
[1000]
type = auth
auth_type = digest
username = 1000
password = secret
[1000]
type = aor
max_contacts = 1
remove_existing = yes
qualify_frequency = 60
";

#[tokio::test]
async fn phones_register_call_and_are_refused() -> anyhow::Result<()> {
    let asterisk = Asterisk::start(Settings::default()).await?;
    let phone = Phone::new(&asterisk, "1000", "secret")?;
    assert!(phone.register().await?.is_refused());
    let [endpoints, routing] = shared::bundle::Slot::ALL.map(|slot| asterisk.slot(slot));
    scratch::write(&endpoints, 0o644, RULES)?;
    let dial = "[synergy-internal]\nexten => 1000,1,Dial(PJSIP/1000,25)\n";
    scratch::write(&routing, 0o644, dial)?;
    asterisk.rx("pjsip reload").await?;
    asterisk.rx("dialplan reload").await?;

    let stranger = Phone::new(&asterisk, "1000", "guess")?;
    assert!(stranger.register().await?.is_refused());
    let mut online = phone.online().await?;
    let call = phone.call("1000", Duration::from_millis(100)).await?;
    assert!(call.is_completed(), "{call:?}");
    online.wait_ended(1).await?;
    assert_eq!(online.calls(), 1);
    let call = phone.call("1999", Duration::ZERO).await?;
    assert_eq!(call, tests::phones::Call::Failed { status: 404 });
    Ok(())
}

#[tokio::test]
async fn a_frozen_asterisk_says_nothing_and_goes_on_later() -> anyhow::Result<()> {
    let mut asterisk = Asterisk::start(Settings::default()).await?;
    asterisk.freeze()?;
    let said = tokio::time::timeout(Duration::from_millis(300), asterisk.rx("core show version"));
    assert!(said.await.is_err());
    asterisk.thaw()?;
    assert!(
        asterisk
            .rx("core show version")
            .await?
            .starts_with("Asterisk 22.")
    );
    asterisk.kill();
    assert!(asterisk.rx("core show version").await.is_err());
    asterisk.resume().await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_can_be_stopped_and_started() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let database = TestDatabase::create_in(&cluster).await?;
    let connects = async || sqlx::PgConnection::connect(&database.url).await.is_ok();
    assert!(connects().await);
    cluster.stop().await?;
    assert!(!connects().await);
    cluster.start().await?;
    wait_until("the database answers", Duration::from_secs(5), connects).await
}
