//! Row 8: Asterisk hangs. The agent has a deadline of its own, calls the result unknown, and stays
//! responsive; nothing that it started is left running.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::ensure;
use shared::record::{OnReloadFailure, Outcome};
use tests::lab::Lab;
use tests::process::{Program, wait_until};

use crate::audit::{applied, audited};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files};
use crate::outage::{ready, wait_ready};
use crate::pbx::{Pbx, bundle, text};
use crate::reloads::SHORT;
use crate::stand_in::{Reload, StandIn};

/// Deadlines of the agent that a test can wait for.
fn short(lab: tests::lab::LabBuilder) -> tests::lab::LabBuilder {
    lab.agent_env("RELOAD_DEADLINE_MS", "3000")
        .agent_env("QUERY_DEADLINE_MS", "2000")
}

/// While Asterisk hangs, and an apply with it, everybody else is served.
#[tokio::test]
async fn the_agent_answers_while_asterisk_hangs_in_an_apply() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let lab = short(Lab::builder())
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    create_users(&lab.client, 2).await?;
    applied(&lab.client, lab.apply().await?).await?;
    create_users_named(&lab, "more").await?;
    // It hangs from the moment when it is told to reload.
    let hold = stand_in.hold(Reload::Pjsip)?;
    let hang = async {
        hold.reached().await?;
        lab.asterisk.freeze()?;
        drop(hold);
        // Answered by the agent, which knows that Asterisk does not answer, and that one runs.
        assert_eq!(ready(&lab.client).await?, (503, [true, true, false]));
        anyhow::Ok(())
    };
    let (reply, frozen) = tokio::join!(lab.apply(), hang);
    frozen?;
    let reply = reply?;
    assert_eq!(reply.problem(504)?, "apply_reload_unknown");
    let attempt = audited(&lab.client, &reply).await?;
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("pjsip reload") && said.contains("may still"),
        "{said}"
    );
    assert!(
        live_files(&lab.asterisk)?[1].contains("1002"),
        "nothing is taken back under a reload"
    );
    let warnings = lab.client.get("/health/ready").await?.json()?["warnings"].to_string();
    assert!(warnings.contains("may still take effect"), "{warnings}");

    // As long as it hangs, the next one ends the same way, and no later.
    assert_eq!(lab.apply().await?.problem(504)?, "apply_reload_unknown");

    lab.asterisk.thaw()?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
    wait_ready(&lab.client, (200, [true; 3])).await
}

async fn create_users_named(lab: &Lab, name: &str) -> anyhow::Result<()> {
    lab.create_user(name, &format!("{name}@example.org"))
        .await
        .map(|_| ())
}

/// What a control socket may do that is not Asterisk's, or belongs to one that hangs.
const ANSWERS: [(&str, &[u8]); 4] = [
    ("nothing", b""),
    ("half a banner", b"pbx/1/22"),
    ("a banner and nothing", b"pbx/1/22.0.0\n"),
    ("lines without end", b"pbx/1/22.0.0\nhello\nhello\n"),
];

/// Accepts whoever connects, says that much, and keeps the connections open.
struct Mute {
    _thread: std::thread::JoinHandle<()>,
}

impl Mute {
    fn listen(path: &std::path::Path, says: &'static [u8]) -> anyhow::Result<Self> {
        std::fs::remove_file(path).ok();
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
        let accept = move || {
            let mut open: Vec<UnixStream> = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                // One byte that is not Asterisk's ends it.
                stream.write_all(says).ok();
                open.push(stream);
            }
        };
        Ok(Self {
            _thread: std::thread::spawn(accept),
        })
    }
}

/// A control socket that accepts and says nothing, or not enough: neither `asterisk -rx` nor a
/// question of the agent's own ends by itself.
#[tokio::test]
async fn a_control_socket_that_says_nothing_is_given_up() -> anyhow::Result<()> {
    for (what, says) in ANSWERS {
        let mut pbx = Pbx::start_with(tests::asterisk::Settings::default(), &SHORT).await?;
        let first = bundle(&[1000], "one");
        ensure!(pbx.apply(&first).await?.outcome == Some(Outcome::Applied));
        pbx.asterisk.stop().await?;
        let _mute = Mute::listen(&pbx.asterisk.control_socket(), says)?;
        let next = bundle(&[1000, 1001], "one");
        let order = pbx.order(&next, OnReloadFailure::RollBack);
        let execute = pbx.execute(&order, &next);
        let meanwhile = async {
            // It answers others while it waits for Asterisk.
            let running = async || {
                let found = pbx.link.find_apply(order.id).await;
                found.is_ok_and(|record| record.is_some())
            };
            wait_until("the apply runs", Duration::from_secs(20), running).await?;
            let status = pbx.link.status().await?;
            ensure!(!status.asterisk_answering, "{what}: {status:?}");
            Ok(())
        };
        let (record, meanwhile) = tokio::join!(execute, meanwhile);
        meanwhile?;
        let record = record?;
        ensure!(
            record.outcome == Some(Outcome::ReloadUnknown),
            "{what}: {record:#?}"
        );
        // Nothing is taken back under a reload that may still run.
        let wanted = shared::bundle::Slot::ALL.map(|slot| text(&next, slot));
        ensure!(live_files(&pbx.asterisk)? == wanted, "{what}");
        let conf = pbx.asterisk.conf().display().to_string();
        let left = async || left_running(&conf).await.is_ok_and(|left| left == 0);
        wait_until("nothing is left running", Duration::from_secs(20), left).await?;

        std::fs::remove_file(pbx.asterisk.control_socket())?;
        pbx.asterisk.resume().await?;
        let record = pbx.apply(&next).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{what}: {record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    }
    Ok(())
}

/// How many `asterisk -rx` of this PBX run.
async fn left_running(conf: &str) -> anyhow::Result<usize> {
    let ps = Program::new("ps").args(["-eo", "args"]);
    let output = ps.run(Duration::from_secs(20)).await?.success()?;
    let ours = |line: &&str| line.contains(conf) && line.contains("-rx");
    Ok(output.lines().filter(ours).count())
}
