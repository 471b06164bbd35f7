//! Registered phones of extensions that have got another owner or another password.
//!
//! Asterisk keeps a contact in its own database when the AOR goes away. Delete 1001, apply, create
//! 1001 for somebody else, apply: without this, the old phone gets the new person's calls until its
//! registration expires. So such contacts are removed after the reload, and read back.

use std::collections::BTreeSet;

use shared::bundle::{GENERATION_MARKER, Manifest};
use shared::model::{self, Model, Options};
use shared::record::{Mismatch, MismatchKind, ObjectKind, Phase};
use shared::status::RegisteredPhone;

use crate::answers::{self, Contact};
use crate::asterisk::{Command, Name};
use crate::journal::Owed;
use crate::steps::{Log, chain};
use crate::verify::{Questions, VerifyError, mismatch};

/// The AORs of `before` at which a phone may be registered that `after` would not let in: those that
/// are gone, and those of which a password is not valid any more. A password that is only added, as
/// when a device changes it and both are valid for a while, drops nobody. Who has registered by
/// which of two passwords is not known; so when the old one ends, whoever is there registers again.
pub(crate) fn changed_hands(before: &Model, after: &Model) -> BTreeSet<String> {
    let mut changed = BTreeSet::new();
    for name in before.endpoints.keys() {
        let Some((aor, old)) = admissions(before, name) else {
            continue;
        };
        let new = admissions(after, name);
        let new = new.filter(|(other, _)| *other == aor);
        let (_, new) = new.unwrap_or_default();
        if !old.iter().all(|admission| new.contains(admission)) {
            changed.insert(aor);
        }
    }
    let real = before.aors.keys().filter(|name| *name != GENERATION_MARKER);
    let lost = |name: &&String| !after.aors.contains_key(*name) || changed.contains(name.as_str());
    real.filter(lost).cloned().collect()
}

/// The AOR that an endpoint lets register at, and the auths by which it does.
fn admissions<'a>(model: &'a Model, endpoint: &str) -> Option<(&'a str, Vec<&'a Options>)> {
    let options = model.endpoints.get(endpoint)?;
    let auths = model::auths(options.get("auth")?);
    let auths = auths.filter_map(|auth| model.auths.get(auth));
    Some((options.get("aors")?, auths.collect()))
}

/// The phones that are registered at `aors`; at all when there are none.
pub(crate) fn registered(
    questions: Questions<'_>,
    aors: &BTreeSet<String>,
) -> Result<Vec<RegisteredPhone>, VerifyError> {
    let contacts = questions.ask(&Command::ShowContacts, answers::contacts)?;
    let asked = |contact: &Contact| aors.is_empty() || aors.contains(&contact.aor);
    let phones = contacts
        .into_iter()
        .filter(asked)
        .map(|contact| RegisteredPhone {
            aor: contact.aor,
            uri: contact.phone.uri,
            user_agent: contact.phone.user_agent,
        });
    Ok(phones.collect())
}

/// Removes the contacts that are owed, and reads back that they are gone. What is left comes back
/// as mismatches.
pub(crate) fn sweep(
    questions: Questions<'_>,
    owed: &Owed,
    model: &Model,
    manifest: &Manifest,
    log: &Log,
) -> Result<Vec<Mismatch>, VerifyError> {
    log.step_finding(Phase::Contacts, "remove contacts of former owners", || {
        let swept = remove(questions, owed, model, manifest);
        let said = match &swept {
            Ok((0, _)) => "there were none".to_owned(),
            Ok((removed, left)) => format!("{removed} found, {} could not be removed", left.len()),
            Err(error) => chain(error),
        };
        (swept.map(|(_, left)| left), said)
    })
}

fn remove(
    questions: Questions<'_>,
    owed: &Owed,
    model: &Model,
    manifest: &Manifest,
) -> Result<(usize, Vec<Mismatch>), VerifyError> {
    let is_owed = |contact: &Contact| {
        let aor = &contact.aor;
        let ours = model.aors.contains_key(aor) || manifest.reserves(aor);
        owed.aors.contains(aor) || (owed.everything && ours)
    };
    let registered = questions.ask(&Command::ShowContacts, answers::contacts)?;
    let found: Vec<_> = registered.into_iter().filter(is_owed).collect();
    for contact in &found {
        if let (Some(aor), Some(hash)) = (Name::new(&contact.aor), Name::new(&contact.hash)) {
            questions.ask(&Command::DeleteContact { aor, hash }, |_| Ok(()))?;
        }
    }
    if found.is_empty() {
        return Ok((0, Vec::new()));
    }
    let registered = questions.ask(&Command::ShowContacts, answers::contacts)?;
    let key = |contact: &Contact| (contact.aor.clone(), contact.hash.clone());
    let removed: BTreeSet<_> = found.iter().map(key).collect();
    let left = registered
        .iter()
        .filter(|contact| removed.contains(&key(contact)));
    let detail = "a phone of a former owner is still registered";
    let left = left.map(|contact| {
        mismatch(
            ObjectKind::Contact,
            &contact.aor,
            MismatchKind::Extra,
            detail,
        )
    });
    Ok((found.len(), left.collect()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verify::tests::{Script, bundle, log, model};

    const LISTED: &str = "\
/registrar/contact/1000;@0123456789abcdef0123456789abcdef: {\"uri\":\"sip:1000@127.0.0.1:5080\"}
/registrar/contact/1001;@00000000000000000000000000000000: {\"uri\":\"sip:1001@127.0.0.1:5081\"}
/registrar/contact/trunk;@11111111111111111111111111111111: {\"uri\":\"sip:x\"}
3 results found.\n";
    const EMPTIED: &str = "0 results found.\n";

    fn swept(owed: &Owed, answers: &[&'static str]) -> (Vec<Mismatch>, Vec<String>) {
        let answers: Vec<_> = answers.iter().map(|answer| Ok(*answer)).collect();
        let script = Script::answering(&answers);
        let questions = Questions {
            asterisk: &script,
            deadline: Duration::from_secs(1),
        };
        let manifest = bundle(&[1000]).manifest();
        let left = sweep(questions, owed, &model(&[1000]), &manifest, &log()).unwrap();
        (
            left,
            script.asked().iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn removed_and_rekeyed_aors_change_hands() {
        let before = model(&[1000, 1001, 1002]);
        let mut after = model(&[1000, 1002, 1003]);
        let auth = after.auths.get_mut("1002").unwrap();
        auth.insert("password_digest", format!("MD5:{}", "f".repeat(32)));
        let changed = changed_hands(&before, &after);
        assert_eq!(
            changed,
            BTreeSet::from(["1001".to_owned(), "1002".to_owned()])
        );
    }

    /// The extension 1000 with these passwords; a digest stands for each.
    fn with_passwords(new: u32, old: Option<u32>) -> Model {
        let mut model = model(&[1000]);
        let digest = |number: u32| format!("MD5:{number:032x}");
        let auth = model.auths.get_mut("1000").unwrap();
        auth.insert("password_digest", digest(new));
        if let Some(old) = old {
            let mut auth = auth.clone();
            auth.insert("password_digest", digest(old));
            model.auths.insert("1000-old".to_owned(), auth);
            let endpoint = model.endpoints.get_mut("1000").unwrap();
            endpoint.insert("auth", "1000,1000-old");
        }
        model
    }

    /// Whoever may still register stays; whoever may not is let go.
    #[test]
    fn a_contact_stays_as_long_as_every_password_that_let_it_in_is_valid() {
        let [plain, both, swapped] = [
            with_passwords(1, None),
            with_passwords(2, Some(1)),
            with_passwords(3, Some(1)),
        ];
        for (before, after, dropped, what) in [
            (&plain, &plain, false, "nothing changes"),
            (&plain, &both, false, "the overlap begins"),
            (&both, &both, false, "it goes on"),
            (&both, &with_passwords(2, None), true, "the overlap ends"),
            (&both, &plain, true, "the change is taken back"),
            (&both, &swapped, true, "another password within the overlap"),
            (&plain, &with_passwords(2, None), true, "plain rotation"),
            (&plain, &with_passwords(2, Some(3)), true, "another owner"),
            (&both, &model(&[]), true, "the device goes"),
        ] {
            let changed = changed_hands(before, after);
            assert_eq!(changed.contains("1000"), dropped, "{what}");
        }
    }

    #[test]
    fn only_what_is_owed_is_removed() {
        let owed = Owed {
            everything: false,
            aors: BTreeSet::from(["1001".to_owned()]),
        };
        let (left, asked) = swept(&owed, &[LISTED, "Database entry removed.\n", EMPTIED]);
        assert!(left.is_empty());
        let delete =
            "database del registrar \"contact/1001;@00000000000000000000000000000000\"".to_owned();
        assert_eq!(asked[1], delete);
        assert_eq!(asked.len(), 3);
    }

    #[test]
    fn without_a_past_every_contact_of_ours_goes_and_trunks_stay() {
        let owed = Owed {
            everything: true,
            aors: BTreeSet::new(),
        };
        let gone = "Database entry removed.\n";
        let (left, asked) = swept(&owed, &[LISTED, gone, gone, EMPTIED]);
        assert!(left.is_empty());
        assert!(
            asked[1].contains("1000;@") && asked[2].contains("1001;@"),
            "{asked:?}"
        );
    }

    #[test]
    fn a_contact_that_stays_is_reported() {
        let owed = Owed {
            everything: false,
            aors: BTreeSet::from(["1000".to_owned()]),
        };
        let (left, _) = swept(
            &owed,
            &[LISTED, "Database entry could not be removed.\n", LISTED],
        );
        assert_eq!(left.len(), 1);
        assert_eq!(
            (left[0].object, left[0].name.as_str()),
            (ObjectKind::Contact, "1000")
        );
    }
}
