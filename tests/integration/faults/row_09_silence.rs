//! Row 9: `asterisk -rx` says nothing, half a line or nonsense, and ends with exit status 0, or is
//! ended by a signal. Nothing of it counts as success, and each is told as what it is.

use anyhow::ensure;
use shared::record::Outcome;

use crate::held::{MARKER, assert_exactly};
use crate::pbx::bundle;
use crate::reloads::SHORT;
use crate::stand_in::{self, Reload};

/// An answer of `asterisk -rx` that is no success, or says that it is one: for which command, what
/// the agent makes of it, and what it tells.
type Answer = (Reload, &'static str, Outcome, &'static str);

const ANSWERS: [Answer; 13] = [
    // Lies.
    (
        Reload::Pjsip,
        "echo \"Module 'res_pjsip.so' reloaded successfully.\"",
        Outcome::RolledBack,
        MARKER,
    ),
    (
        Reload::Dialplan,
        "echo Dialplan reloaded.",
        Outcome::RolledBack,
        MARKER,
    ),
    // Half a line, nonsense, another module, none.
    (
        Reload::Pjsip,
        "printf \"Module 'res_pj\"",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    (
        Reload::Dialplan,
        "printf 'Dialplan relo'",
        Outcome::RolledBack,
        "Dialplan: ",
    ),
    (Reload::Pjsip, "echo 42", Outcome::RolledBack, "42"),
    (
        Reload::Pjsip,
        "echo \"Module 'res_pjsip_mwi.so' reloaded successfully.\"",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    (
        Reload::Pjsip,
        "echo \"No such module 'res_pjsip.so'\"",
        Outcome::RolledBack,
        "No such module",
    ),
    // A failure, a crash.
    (
        Reload::Dialplan,
        "echo oh dear >&2; exit 3",
        Outcome::RolledBack,
        "oh dear",
    ),
    (
        Reload::Pjsip,
        "kill -SEGV $$",
        Outcome::RolledBack,
        "PJSIP: ",
    ),
    // Nobody there.
    (
        Reload::Dialplan,
        "echo 'Unable to connect to remote asterisk (does x exist?)'; exit 1",
        Outcome::ReloadFailedFilesKept,
        "not running",
    ),
    // Silence, for a minute or for ever.
    (Reload::Pjsip, ":", Outcome::ReloadUnknown, "may still"),
    (Reload::Dialplan, ":", Outcome::ReloadUnknown, "may still"),
    (
        Reload::Dialplan,
        "sleep 60",
        Outcome::ReloadUnknown,
        "may still",
    ),
];

#[tokio::test]
async fn no_answer_of_the_command_line_counts_as_success_by_itself() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    for (reload, script, outcome, words) in ANSWERS {
        stand_in.once(reload, &format!("{script}\nexit 0\n"))?;
        let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
        let at = format!("{script}: {record:#?}");
        ensure!(record.outcome == Some(outcome), "{at}");
        ensure!(record.failure.contains(words), "{at}");
        if outcome == Outcome::RolledBack {
            assert_exactly(&pbx.asterisk, [1000]).await?;
        }
        // Whatever was left behind, the next apply sets it right.
        let record = pbx.apply(&bundle(&[1000], "one")).await?;
        ensure!(
            record.outcome.is_some_and(Outcome::is_proven),
            "{at}\n{record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}
