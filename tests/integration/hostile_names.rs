//! Nothing that a name, an address or a note may hold changes what Asterisk reads: created over
//! REST, applied, and read back from the real Asterisk and from the wire.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tests::asterisk::Asterisk;
use tests::lab::{Lab, NewUser};
use tests::scratch::{self, Scratch};

use crate::audit::applied;
use crate::held::{assert_exactly, live_files};

/// The longest caller name that Asterisk keeps, in bytes.
const CALLER_NAME_BYTES_MAX: usize = 79;

/// Names that a person could have, each of which some parser on the way treats specially. `FILE`
/// stands for a file that must never come to be.
const NAMES: &[&str] = &[
    // Comments of Asterisk's configuration.
    ";",
    "a; b",
    ";--",
    "--;",
    "x --; y",
    ";-- x --;",
    r"a\;b",
    r"\;--",
    // Quotes and escapes of the caller id.
    "\"",
    "\"quoted\"",
    "a\" <1002>",
    "a <1002>",
    "x> , <sip:evil@x",
    r"\",
    r"end\",
    r"\\",
    "\\\"",
    r"\n[1001]",
    // Sections, directives, assignments, templates.
    "[evil]",
    "[1001](+)",
    "](!)",
    "#include /etc/passwd",
    "#exec touch FILE",
    "= x",
    "=> x",
    "> x",
    ">",
    "type=endpoint",
    "exten => 1001,1,System(touch FILE)",
    // Evaluation, in Asterisk and in shells.
    "${SHELL(touch FILE)}",
    "$[1+1] ${EXTEN} ${CALLERID(num)}",
    "$(touch FILE)",
    "`touch FILE`",
    "%s%n%d {{7*7}} <b>&amp;",
    // SQL.
    "'; drop table \"user\"; --",
    "Robert'); delete from extension;--",
    // Lists and separators.
    ",|&/()@^~*!?",
    // Other scripts, also from right to left, and what is shown as nothing.
    "Žluťoučký kůň",
    "名前 太郎",
    "עברית abc",
    "a\u{200b}b\u{feff}c",
    "👩‍👩‍👧 family",
    "e\u{301}",
];

/// Names around the 79th byte.
fn long_names() -> Vec<String> {
    let mut names = Vec::new();
    for wide in ["é", "€", "😀"] {
        let width = wide.len();
        for before in CALLER_NAME_BYTES_MAX - width - 1..=CALLER_NAME_BYTES_MAX {
            names.push(format!("{}{wide}", "x".repeat(before)));
        }
    }
    names.extend(["\"", r"\", ";", "é"].map(|text| text.repeat(100)));
    names.push(format!("{}\"tail", "x".repeat(78)));
    names.push(format!("{}\\tail", "x".repeat(78)));
    names.push(format!("{} tail", "x".repeat(78)));
    names.push(format!("{}  tail", "x".repeat(77)));
    names
}

/// What of a name a called phone must show.
fn shown(name: &str) -> &str {
    let mut end = name.len().min(CALLER_NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[tokio::test]
async fn every_name_arrives_as_it_is_and_changes_nothing_else() -> anyhow::Result<()> {
    let scratch = Scratch::new("evil")?;
    let dir = scratch.path().join("dir");
    scratch::directory(&dir, 0o777)?;
    let file = dir.join("x");
    let lab = Lab::start().await?;
    let callee = lab.create_user("Callee", "callee@example.org").await?;
    let names = NAMES
        .iter()
        .map(|name| name.replace("FILE", &file.display().to_string()));
    let names: Vec<String> = names.chain(long_names()).collect();
    let mut users = Vec::new();
    for (number, name) in names.iter().enumerate() {
        users.push(
            lab.create_user(name, &format!("user{number}@example.org"))
                .await?,
        );
    }
    // The database and the API keep the whole name.
    let listed = lab.client.get("/users").await?.expect(200)?.json()?;
    let listed = listed.as_array().context("no array")?;
    let kept: Vec<&str> = listed
        .iter()
        .skip(1)
        .filter_map(|user| user["name"].as_str())
        .collect();
    assert_eq!(kept, names);

    let log_before = lab.asterisk.log().len();
    applied(&lab.client, lab.apply().await?).await?;
    let log = lab.asterisk.log();
    let complaints = log[log_before..]
        .lines()
        .filter(|l| l.contains("WARNING") || l.contains("ERROR"));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&str>::new());

    let everyone = users
        .iter()
        .map(|user| user.extension)
        .chain([callee.extension]);
    assert_exactly(&lab.asterisk, everyone).await?;
    for (name, user) in names.iter().zip(&users) {
        assert_held(&lab.asterisk, user, name).await?;
    }
    assert_on_the_wire(&lab, &callee, &names, &users).await?;
    assert!(!file.exists(), "a name was executed");
    Ok(())
}

/// `pjsip show endpoint` says the name, and that the endpoint is as any other.
async fn assert_held(asterisk: &Asterisk, user: &NewUser, name: &str) -> anyhow::Result<()> {
    let number = user.extension;
    let said = asterisk
        .rx(&format!("pjsip show endpoint {number}"))
        .await?;
    let option = |key: &str| {
        let lines = said.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(found, _)| found.trim() == key);
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    let caller_id = option("callerid").unwrap_or_default();
    let unescaped = unescape(&caller_id);
    let wanted = format!("\"{}\" <{number}>", shown(name));
    // Asterisk shows ten bytes more than the bare name and number have; the wire tells the rest.
    let escapes = name.matches(['"', '\\']).count();
    let fits = escapes <= 5 && unescaped == wanted;
    let cut = escapes > 5 && wanted.starts_with(&unescaped) && unescaped.len() > name.len() / 3;
    ensure!(fits || cut, "{name:?}: {caller_id} is not {wanted}");
    for (key, value) in [
        ("context", "synergy-internal"),
        ("aors", &number.to_string()),
        ("allow", "(ulaw|alaw)"),
    ] {
        ensure!(
            option(key).as_deref() == Some(value),
            "{name:?}: {key} in {said}"
        );
    }
    Ok(())
}

/// Everybody calls one phone, which shows who calls.
async fn assert_on_the_wire(
    lab: &Lab,
    callee: &NewUser,
    names: &[String],
    users: &[NewUser],
) -> anyhow::Result<()> {
    let mut online = lab.phone(callee)?.online().await?;
    for (number, (name, user)) in names.iter().zip(users).enumerate() {
        let call = lab
            .phone(user)?
            .call(&callee.sip_username, Duration::ZERO)
            .await?;
        ensure!(call.is_completed(), "{name:?}: {call:?}");
        online.wait_ended(number + 1).await?;
        let callers = online.callers();
        let from = callers.last().context("no call")?;
        let display = from
            .split_once('"')
            .and_then(|(_, rest)| rest.rsplit_once("\" <sip:"));
        let (display, uri) = display.with_context(|| format!("{name:?}: {from}"))?;
        ensure!(unescape(display) == shown(name), "{name:?}: {from}");
        ensure!(
            uri.starts_with(&format!("{}@", user.extension)),
            "{name:?}: {from}"
        );
    }
    Ok(())
}

/// Takes away the backslash of each `\x`.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.extend(if char == '\\' {
            chars.next()
        } else {
            Some(char)
        });
    }
    plain
}

/// Addresses and notes are for people: Asterisk never sees them.
#[tokio::test]
async fn addresses_and_metadata_reach_no_file() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let emails = [
        "needle'or'1'='1@example.org",
        "needle+${x}`y`@example.org",
        "needle%n#@example.org",
    ];
    let metadata = json!({ "needle": "\n[1001]\ntype = endpoint\n#include /needle" });
    for email in emails {
        let body = json!({ "name": "Ann", "email": email, "metadata": metadata });
        let created = lab
            .client
            .post("/users", &body)
            .await?
            .expect(201)?
            .json()?;
        assert_eq!(
            (&created["email"], &created["metadata"]),
            (&json!(email), &metadata)
        );
    }
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert!(!endpoints.contains("needle") && !routing.contains("needle"));
    assert!(!Path::new("/needle").exists());
    Ok(())
}
