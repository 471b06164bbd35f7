//! The comparison, and what the tests of other modules share: sample bundles, a stand-in that
//! answers from a script, and one that behaves like an Asterisk that took a given bundle.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use shared::bundle::{Bundle, Digest, GENERATION_MARKER, Revision};
use shared::model::Options;

use super::options::same_caller_id;
use super::*;
use crate::asterisk::Class;
use crate::validate::objects;

/// A bundle as the portal renders it, with these extensions.
pub(crate) fn bundle(numbers: &[u32]) -> Bundle {
    let mut pjsip = "; header\n".to_owned();
    let mut dialplan = "; header\n[synergy-internal]\n".to_owned();
    for n in numbers.iter().rev() {
        write!(
            pjsip,
            "[{n}]\ntype = endpoint\ncontext = synergy-internal\ndisallow = all\n\
             allow = ulaw,alaw\nauth = {n}\naors = {n}\ncallerid = \"U \\\"x\\\"\" <{n}>\n\
             direct_media = no\n[{n}]\ntype = auth\nauth_type = digest\nusername = {n}\n\
             realm = synergycall\npassword_digest = MD5:0000000000000000000000000000{n:04}\n\
             [{n}]\ntype = aor\nmax_contacts = 1\nremove_existing = yes\n"
        )
        .unwrap();
        writeln!(dialplan, "exten => {n},1,Dial(PJSIP/{n},25)").unwrap();
    }
    let mark = |text: &str| format!("g-{}", &Digest::of(text.as_bytes()).to_string()[..16]);
    let (mark, dialplan_mark) = (mark(&pjsip), mark(&dialplan));
    let name = GENERATION_MARKER;
    write!(
        pjsip,
        "[{name}]\ntype = aor\nmax_contacts = 0\nvoicemail_extension = {mark}\n\
         [{name}]\ntype = auth\nauth_type = digest\nusername = {mark}\n\
         password_digest = MD5:11111111111111111111111111111111\n\
         [{name}]\ntype = endpoint\ncontext = {name}\ndisallow = all\nauth = {name}\n\
         accountcode = {mark}\n"
    )
    .unwrap();
    writeln!(
        dialplan,
        "[{name}]\nexten => generation,1,NoOp({dialplan_mark})"
    )
    .unwrap();
    let files = BTreeMap::from([
        (Slot::PjsipEndpoints, pjsip.into_bytes()),
        (Slot::DialplanRouting, dialplan.into_bytes()),
    ]);
    Bundle {
        files,
        reserved_numbers: vec![1000..=1999],
    }
}

/// Its objects.
pub(crate) fn model(numbers: &[u32]) -> Model {
    validate::text(&bundle(numbers)).expect("a sound bundle")
}

/// The directories of the managed files, empty.
pub(crate) fn directories() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for slot in Slot::ALL {
        let path = dir.path().join(slot.relative_path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    dir
}

/// An empty record.
pub(crate) fn log() -> Log {
    Log::nowhere()
}

type Scripted = Result<&'static str, AsteriskError>;

/// Answers whatever it is asked from a list, and notes the questions.
pub(crate) struct Script {
    answers: Mutex<VecDeque<Scripted>>,
    asked: Mutex<Vec<Command>>,
}

impl Script {
    pub(crate) fn answering(answers: &[Scripted]) -> Self {
        let answers = Mutex::new(answers.iter().cloned().collect());
        Self {
            answers,
            asked: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Command> {
        self.asked.lock().unwrap().clone()
    }
}

impl Asterisk for Script {
    fn run(&self, command: &Command, _: Duration) -> Result<String, AsteriskError> {
        self.asked.lock().unwrap().push(command.clone());
        let answer = self.answers.lock().unwrap().pop_front();
        answer
            .expect("asked more than the script holds")
            .map(str::to_owned)
    }
}

/// Answers as an Asterisk that holds `model`, in the form of Asterisk 22.10.1.
pub(crate) struct Holding(pub(crate) Model);

impl Asterisk for Holding {
    fn run(&self, command: &Command, _: Duration) -> Result<String, AsteriskError> {
        Ok(answer_as(&self.0, command))
    }
}

/// What an Asterisk that holds `model` answers.
pub(crate) fn answer_as(model: &Model, command: &Command) -> String {
    match command {
        Command::List(kind, classes) => {
            let names = objects(model, *kind).keys();
            let listed =
                |class: &Class| listed(*kind, names.clone().filter(|name| class.has(name)));
            classes.iter().map(listed).collect()
        }
        Command::Show(kind, names) => names.iter().map(|name| shown(model, *kind, name)).collect(),
        Command::ShowContexts(contexts) => {
            let shown = |context: &Name| shown_context(model, context.as_str());
            contexts.iter().map(shown).collect()
        }
        Command::ShowExtension { context, .. } => shown_context(model, context.as_str()),
        Command::ShowContacts => "0 results found.\n".to_owned(),
        Command::WaitFullyBooted => "Asterisk has fully booted.\n".to_owned(),
        Command::PjsipReload => "Module 'res_pjsip.so' reloaded successfully.\n".to_owned(),
        Command::DialplanReload => "Dialplan reloaded.\n".to_owned(),
        Command::Version => "Asterisk 22.10.1\n".to_owned(),
        other => panic!("not scripted: {other}"),
    }
}

fn listed<'a>(kind: PjsipType, names: impl Iterator<Item = &'a String>) -> String {
    let title = match kind {
        PjsipType::Endpoint => "Endpoint",
        PjsipType::Auth => "Auth",
        PjsipType::Aor => "Aor",
    };
    let lines: Vec<_> = names
        .map(|name| format!(" {title}:  {name}/x   1 of inf\n"))
        .collect();
    let count = match lines.len() {
        0 => "No objects found.".to_owned(),
        count => format!("Objects found: {count}"),
    };
    let lines = lines.concat();
    format!(" {title}:  <{title}.....>\n======\n\n{lines}\n{count}\n\n")
}

fn shown(model: &Model, kind: PjsipType, name: &Name) -> String {
    let Some(options) = objects(model, kind).get(name.as_str()) else {
        return format!("Unable to find object {}.\n\n", name.as_str());
    };
    let line = |(option, value): (&str, &str)| match (option, value) {
        ("allow", value) => format!(" allow : ({})\n", value.replace(',', "|")),
        (_, "yes") => format!(" {option} : true\n"),
        (_, "no") => format!(" {option} : false\n"),
        (_, value) => format!(" {option} : {value}\n"),
    };
    let lines: String = options.iter().map(line).collect();
    format!("\n head\n\n ParameterName : ParameterValue\n =====\n{lines}\n")
}

fn shown_context(model: &Model, context: &str) -> String {
    let Some(extensions) = model.contexts.get(context) else {
        return format!("There is no existence of '{context}' context\n");
    };
    let line = |(extension, steps): (&String, &Vec<String>)| {
        format!(
            "  '{extension}' =>   1. {}   [generated_routing.conf:3]\n",
            steps[0]
        )
    };
    let lines: String = extensions.iter().map(line).collect();
    let count = extensions.len();
    format!(
        "[ Context '{context}' created by 'pbx_config' ]\n{lines}\n\
         -= {count} extensions ({count} priorities) in 1 context. =-\n"
    )
}

/// What is found when Asterisk holds `held` and should hold `expected`.
fn found(held: Model, expected: &Model, before: &[&Model], depth: Depth) -> Vec<String> {
    let asterisk = Holding(held);
    let questions = Questions {
        asterisk: &asterisk,
        deadline: Duration::from_secs(1),
    };
    let manifest = bundle(&[]).manifest();
    let earlier = |(number, model): (u64, &&Model)| Earlier {
        revision: Revision(number),
        model: Arc::new((*model).clone()),
    };
    let before: Vec<_> = (1..).zip(before).map(earlier).collect();
    let expected = Expected {
        model: expected,
        manifest: &manifest,
        before: &before,
        depth,
    };
    let mut found = pjsip(questions, &expected, Phase::Verifying, &log()).unwrap();
    found.extend(dialplan(questions, &expected, Phase::Verifying, &log()).unwrap());
    let mismatches = found.mismatches.iter();
    mismatches
        .map(|m| format!("{} {} {:?} {}", m.object.name(), m.name, m.kind, m.detail))
        .collect()
}

#[test]
fn what_was_sent_is_found_again() {
    let sent = model(&[1000, 1001]);
    assert!(found(model(&[1000, 1001]), &sent, &[], Depth::Everything).is_empty());
}

#[test]
fn an_asterisk_that_kept_the_old_set_is_noticed() {
    let old = model(&[1000, 1001]);
    let found = found(old.clone(), &model(&[1000, 1002]), &[&old], Depth::Changed);
    for expected in [
        "endpoint 1002 Missing",
        "auth 1002 Missing",
        "aor 1002 Missing",
        "aor 1001 Extra",
        "marker synergy-generation Different endpoint: accountcode",
        "marker synergy-generation Different auth: username",
        "marker synergy-generation Different aor: voicemail_extension",
        "marker generation@synergy-generation Different",
        "extension 1002@synergy-internal Missing",
        "extension 1001@synergy-internal Extra",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:#?}"
        );
    }
}

/// One type kept its old objects: its marker tells.
#[test]
fn a_mixture_is_noticed_by_the_marker_of_its_type() {
    let sent = model(&[1000, 1001]);
    let mut held = model(&[1000, 1001]);
    held.endpoints
        .get_mut(GENERATION_MARKER)
        .unwrap()
        .insert("accountcode", "g-0");
    let found = found(held, &sent, &[], Depth::Markers);
    let expected = "marker synergy-generation Different endpoint: accountcode (g-0 instead of ";
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "{found:?}"
    );
}

/// One object kept its old version, as Asterisk does with a bad option: only its options tell.
#[test]
fn a_changed_object_is_compared_option_by_option_and_no_secret_is_shown() {
    let sent = model(&[1000]);
    for (kind, option) in [
        (PjsipType::Endpoint, "context"),
        (PjsipType::Endpoint, "callerid"),
        (PjsipType::Endpoint, "allow"),
        (PjsipType::Auth, "password_digest"),
        (PjsipType::Aor, "max_contacts"),
    ] {
        let mut held = model(&[1000]);
        let objects = match kind {
            PjsipType::Endpoint => &mut held.endpoints,
            PjsipType::Auth => &mut held.auths,
            PjsipType::Aor => &mut held.aors,
        };
        objects
            .get_mut("1000")
            .unwrap()
            .insert(option, "MD5:5ecre7");
        let found = found(held, &sent, &[&model(&[])], Depth::Changed);
        let word = kind.word();
        let expected = format!("{word} 1000 Different {word}: {option}");
        assert!(
            found.len() == 1 && found[0].starts_with(&expected),
            "{found:?}"
        );
        let secret = option == "password_digest";
        assert_eq!(found[0].contains("MD5:"), !secret, "{found:?}");
    }
}

#[test]
fn names_of_an_earlier_revision_and_names_of_ours_are_extra_and_trunks_are_not() {
    let mut held = model(&[1000]);
    let names = [
        "trunk",
        "t1-trunk",
        "2000",
        "1999",
        "1999-old",
        "t1-1000-a",
        "t2-1000-a-old",
    ];
    for name in names {
        held.aors.insert(name.into(), Options::default());
    }
    let mut before = model(&[]);
    before.aors.insert("t1-1000-a".into(), Options::default());
    let found = found(held, &model(&[1000]), &[&before], Depth::Changed);
    assert_eq!(
        found,
        [
            "aor 1999 Extra a name of the portal",
            "aor 1999-old Extra a name of the portal",
            "aor t1-1000-a Extra left from revision 1",
            "aor t2-1000-a-old Extra a name of the portal",
        ]
    );
}

/// Of a hundred and more objects, one was refused and kept its old options: it is named, and of
/// which revision it is. Objects that differ in none of the earlier generations are not asked for.
#[test]
fn every_changed_object_is_compared_and_what_is_kept_is_told() {
    let numbers: Vec<_> = (1000..1400).collect();
    let old = model(&numbers);
    let mut new = old.clone();
    for number in &numbers[..300] {
        let options = new.aors.get_mut(&number.to_string()).unwrap();
        options.insert("max_contacts", "2");
    }
    let mut held = new.clone();
    for number in ["1299", "1300"] {
        held.aors.insert(number.into(), old.aors[number].clone());
    }
    assert_eq!(
        found(held.clone(), &new, &[&old], Depth::Changed),
        ["aor 1299 Different aor: max_contacts (1 instead of 2); still as in revision 1"]
    );
    // In the last revision but one, 1300 was another.
    let mut older = new.clone();
    let options = older.aors.get_mut("1300").unwrap();
    options.insert("max_contacts", "3");
    held.aors.insert("1300".into(), older.aors["1300"].clone());
    let found = found(held, &new, &[&old, &older], Depth::Changed);
    assert!(
        found[1].ends_with("max_contacts (3 instead of 1); still as in revision 2"),
        "{found:?}"
    );
}

/// What an earlier generation had beyond the contexts of the new one must be gone.
#[test]
fn a_context_that_was_left_behind_is_noticed() {
    let new = model(&[1000]);
    let mut old = new.clone();
    let step = BTreeMap::from([("1001".to_owned(), vec!["Dial(PJSIP/1000,25)".to_owned()])]);
    old.contexts.insert("elsewhere".into(), step);
    assert!(found(new.clone(), &new, &[&old], Depth::Changed).is_empty());
    let found = found(old.clone(), &new, &[&old], Depth::Changed);
    assert_eq!(found, ["extension 1001@elsewhere Extra not in the bundle"]);
}

/// A busy host: parts of answers are missing, and then come.
#[test]
fn an_answer_that_ends_early_is_asked_for_again() {
    let whole = " Aor:  1000/x   1 of inf\n\nObjects found: 1\n";
    let cut = " Aor:  1000/x   1 of inf\n";
    let script = Script::answering(&[Ok(cut), Ok(""), Ok(whole)]);
    let questions = Questions {
        asterisk: &script,
        deadline: Duration::from_secs(1),
    };
    let command = Command::List(PjsipType::Aor, vec![Class::default()]);
    let names = questions.ask(&command, |text| answers::list("Aor", 1, text));
    assert_eq!(names.unwrap().len(), 1);
    assert_eq!(script.asked().len(), 3);
}

#[test]
fn an_answer_that_ends_early_proves_nothing() {
    let cut = Ok(" Endpoint:  1000/1000    Unavailable   0 of inf\n");
    let script = Script::answering(&vec![cut; 3 * ANSWERS_TRIED_MAX]);
    let questions = Questions {
        asterisk: &script,
        deadline: Duration::from_secs(1),
    };
    let (sent, manifest) = (model(&[1000]), bundle(&[]).manifest());
    let expected = Expected {
        model: &sent,
        manifest: &manifest,
        before: &[],
        depth: Depth::Everything,
    };
    let error = pjsip(questions, &expected, Phase::Verifying, &log()).unwrap_err();
    assert!(matches!(error, VerifyError::Answer { .. }), "{error}");
}

/// Captured from Asterisk 22.10.1: what does not fit is cut off.
#[test]
fn a_caller_id_with_many_quotes_is_shown_without_its_end() {
    let five = r#""\"\"\"\"\"" <1000>"#;
    assert!(same_caller_id(five, five));
    assert!(!same_caller_id(five, &five.replace("1000", "1001")));
    let six = r#""\"\"\"\"\"\"" <1000>"#;
    assert!(same_caller_id(r#""\"\"\"\"\"\"" <1000"#, six));
    assert!(!same_caller_id(r#""\"\"\"\"\"\"" <100"#, six));
    assert!(!same_caller_id(r#""\"\"\"\"\"x" <1000"#, six));
    // The room of the bare name and number and ten more: 79 + 4 + 10 bytes.
    let sent = format!("\"{}\" <1058>", "\\\"".repeat(79));
    let shown = format!("\"{}", "\\\"".repeat(46));
    assert!(same_caller_id(&shown, &sent));
    assert!(!same_caller_id(&shown[..shown.len() - 2], &sent));
    // A cut in the middle of a character, behind a blank.
    let sent = format!("\"{}é\" <1000>", "\\\"".repeat(14));
    let shown = format!("\"{}", "\\\"".repeat(14));
    let cut = sent.len() + 5 - 14;
    assert!(!sent.is_char_boundary(cut));
    assert!(same_caller_id(&format!("{shown}\u{fffd}"), &sent));
}
