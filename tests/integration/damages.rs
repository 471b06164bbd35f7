//! Ways to damage a rendered file, by the rows of what Asterisk does with such files.

use shared::bundle::{Bundle, Slot};

use crate::held::MARKER;
use crate::pbx::{bundle, text};

/// A way to damage a file of [`after`]. The number in question is 1001.
pub(crate) struct Damage {
    pub(crate) name: &'static str,
    /// What the agent must name when Asterisk has read such a file.
    pub(crate) noticed: &'static str,
    change: fn(&str) -> String,
}

const fn damage(name: &'static str, noticed: &'static str, change: fn(&str) -> String) -> Damage {
    Damage {
        name,
        noticed,
        change,
    }
}

/// Where Asterisk holds the bundle nevertheless, or is not asked for what differs: what is noticed is
/// that the file is another.
const fn unseen(name: &'static str, change: fn(&str) -> String) -> Damage {
    damage(name, "somebody changed", change)
}

/// What is in force before each damage.
pub(crate) fn before() -> Bundle {
    bundle(&[1000, 1001], "one")
}

/// What is damaged: every object differs from [`before`], and 1002 is new.
pub(crate) fn after() -> Bundle {
    bundle(&[1000, 1001, 1002], "two")
}

/// Changes the first `from` at or behind the section of `kind` of 1001.
fn in_section(text: &str, kind: &str, from: &str, to: &str) -> String {
    let at = text
        .find(&format!("[1001]\ntype = {kind}\n"))
        .expect("no such section");
    let (head, tail) = text.split_at(at);
    format!("{head}{}", tail.replacen(from, to, 1))
}

/// The section of `kind` of 1001.
fn section<'a>(text: &'a str, kind: &str) -> &'a str {
    let at = text
        .find(&format!("[1001]\ntype = {kind}\n"))
        .expect("no such section");
    text[at..].split("\n\n").next().unwrap_or_default()
}

/// The line of `key` in the section of `kind` of 1001, with its end.
fn line<'a>(text: &'a str, kind: &str, key: &str) -> &'a str {
    let begin = format!("{key} = ");
    let mut lines = section(text, kind).split_inclusive('\n');
    lines
        .find(|line| line.starts_with(&begin))
        .expect("no such option")
}

fn without_line(text: &str, kind: &str, key: &str) -> String {
    in_section(text, kind, line(text, kind, key), "")
}

/// Rows of `asterisk.md` about `pjsip.conf`, by what a file of ours may hold.
const PJSIP: &[Damage] = &[
    damage("section header without end", MARKER, |t| {
        in_section(t, "endpoint", "]", "")
    }),
    damage("missing template", MARKER, |t| {
        in_section(t, "endpoint", "]", "](nowhere)")
    }),
    damage("addition to an unknown section", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", "[1777](+)\n[1001]")
    }),
    damage("include of a missing file", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", "#include nowhere.conf\n[1001]")
    }),
    unseen("exec", |t| {
        in_section(t, "endpoint", "[1001]", "#exec /bin/true\n[1001]")
    }),
    unseen("unknown directive", |t| {
        in_section(t, "endpoint", "[1001]", "#nonsense\n[1001]")
    }),
    damage(
        "line without an equals sign",
        "endpoint 1001 differs (endpoint: aors",
        |t| in_section(t, "endpoint", "aors = 1001", "aors 1001"),
    ),
    damage("unknown option", "; still as in revision 1)", |t| {
        in_section(t, "endpoint", "direct_media", "nonsense")
    }),
    unseen("bad value that means no", |t| {
        in_section(t, "endpoint", "direct_media = no", "direct_media = perhaps")
    }),
    damage("bad codec", "; still as in revision 1)", |t| {
        in_section(t, "endpoint", "allow = ulaw,alaw", "allow = nonsense")
    }),
    damage("bad number in a new AOR", "aor 1002 is missing", |t| {
        t.replacen("max_contacts = 1", "max_contacts = many", 1)
    }),
    damage(
        "unknown option in a new endpoint",
        "endpoint 1002 is missing",
        |t| t.replacen("direct_media = no", "nonsense = no", 1),
    ),
    damage("unknown option in a new AOR", "aor 1002 is missing", |t| {
        t.replacen("max_contacts", "most_contacts", 1)
    }),
    // Asterisk keeps the old object, which is the same but for that.
    unseen("unknown option in an AOR that does not change", |t| {
        in_section(t, "aor", "max_contacts", "most_contacts")
    }),
    damage(
        "auth without a digest",
        "auth 1001 differs (auth: password_digest; still as in revision 1)",
        |t| without_line(t, "auth", "password_digest"),
    ),
    damage(
        "comment in a digest",
        "auth 1001 differs (auth: password_digest; still as in revision 1)",
        |t| {
            let digest = line(t, "auth", "password_digest").to_owned();
            let (head, tail) = digest.split_at(digest.len() - 8);
            in_section(t, "auth", &digest, &format!("{head};{tail}"))
        },
    ),
    damage("endpoint twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "endpoint"))
    }),
    damage("auth twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "auth"))
    }),
    damage("AOR twice", MARKER, |t| {
        format!("{t}\n{}\n", section(t, "aor"))
    }),
    damage(
        "endpoint with an AOR that is missing",
        "endpoint 1001 differs (endpoint: aors",
        |t| in_section(t, "endpoint", "aors = 1001", "aors = 1777"),
    ),
    damage(
        "endpoint with an auth that is missing",
        "endpoint 1001 differs (endpoint: auth",
        |t| in_section(t, "endpoint", "auth = 1001", "auth = 1777"),
    ),
    damage(
        "endpoint without auth",
        "endpoint 1001 differs (endpoint: auth",
        |t| without_line(t, "endpoint", "auth"),
    ),
    damage("section without a type", "aor 1001 is missing", |t| {
        in_section(t, "aor", "type = aor\n", "")
    }),
    damage("section of an unknown type", "aor 1001 is missing", |t| {
        in_section(t, "aor", "type = aor\n", "type = aorta\n")
    }),
    damage("lost object", "auth 1001 is missing", |t| {
        in_section(t, "auth", section(t, "auth"), "")
    }),
    damage(
        "NUL in a line",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", "User\0 1001"),
    ),
    damage("end of a block comment in a value", MARKER, |t| {
        in_section(t, "endpoint", "User 1001", "User --; 1001")
    }),
    damage(
        "comment in a value",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", "User; 1001"),
    ),
    damage("block comment that does not end", MARKER, |t| {
        in_section(t, "endpoint", "[1001]", ";--\n[1001]")
    }),
    unseen("block comment that does not end at the very end", |t| {
        format!("{t}\n;-- x\n")
    }),
    damage("cut in the middle", MARKER, |t| {
        t[..t.find("[1001]").unwrap_or(0)].to_owned()
    }),
    damage("cut before the marker", MARKER, |t| {
        t[..t.find("[synergy-generation]").unwrap_or(0)].to_owned()
    }),
    damage("cut in the marker", MARKER, |t| t[..t.len() - 3].to_owned()),
    damage("no bytes", MARKER, |_| String::new()),
    damage("comments alone", MARKER, |_| "; nothing\n".to_owned()),
    damage(
        "line that is too long",
        "endpoint 1001 differs (endpoint: callerid",
        |t| in_section(t, "endpoint", "User 1001", &"x".repeat(9000)),
    ),
    damage(
        "section name that is too long",
        "aor 1001 is missing",
        |t| in_section(t, "aor", "[1001]", &format!("[{}]", "1".repeat(90))),
    ),
];

/// Files that are sound and say something else than the bundle.
const OTHER_PJSIP: &[Damage] = &[
    damage(
        "object too many",
        "endpoint 1777 should not be there",
        |t| {
            format!(
                "{t}\n{}\n",
                section(t, "endpoint").replace("[1001]", "[1777]")
            )
        },
    ),
    damage(
        "another password",
        "auth 1001 differs (auth: password_digest",
        |t| {
            let digest = line(t, "auth", "password_digest").to_owned();
            let other = format!("password_digest = MD5:{}\n", "0".repeat(32));
            in_section(t, "auth", &digest, &other)
        },
    ),
    damage(
        "another context",
        "endpoint 1001 differs (endpoint: context",
        |t| {
            in_section(
                t,
                "endpoint",
                "context = synergy-internal",
                "context = from-gsm",
            )
        },
    ),
    unseen("more contacts of an AOR that does not change", |t| {
        in_section(t, "aor", "max_contacts = 1", "max_contacts = 9")
    }),
];

/// Rows about `extensions.conf`.
const DIALPLAN: &[Damage] = &[
    damage(
        "unknown application",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001", "Dail(PJSIP/1001"),
    ),
    damage(
        "priority twice",
        "extension 1001@synergy-internal differs",
        |t| t.replace("exten => 1001,", "exten => 1001,1,Hangup()\nexten => 1001,"),
    ),
    damage(
        "context twice",
        "extension 1777@synergy-internal should not be there",
        |t| format!("{t}\n[synergy-internal]\nexten => 1777,1,Hangup()\n"),
    ),
    damage(
        "line without an equals sign",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001", "exten 1001"),
    ),
    damage(
        "bad priority",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001,1", "exten => 1001,one"),
    ),
    damage(
        "unknown keyword",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001", "extend => 1001"),
    ),
    unseen("application without its last parenthesis", |t| {
        t.replace("Dial(PJSIP/1001,25)", "Dial(PJSIP/1001,25")
    }),
    damage("section header without end", MARKER, |t| {
        t.replace("[synergy-generation]", "[synergy-generation")
    }),
    damage(
        "line before the first section",
        "1001@synergy-internal is missing",
        |t| {
            let step = "exten => 1001,1,Dial(PJSIP/1001,25)\n";
            format!("{step}{}", t.replace(step, ""))
        },
    ),
    damage(
        "include of a context",
        "synergy-internal should not be there",
        |t| {
            t.replace(
                "[synergy-internal]",
                "[synergy-internal]\ninclude => nowhere",
            )
        },
    ),
    damage(
        "pattern",
        "extension _X.@synergy-internal should not be there",
        |t| {
            t.replace(
                "exten => 1001",
                "exten => _X.,1,Dial(PJSIP/${EXTEN})\nexten => 1001",
            )
        },
    ),
    damage(
        "step too many",
        "extension 1001@synergy-internal differs",
        |t| t.replace("exten => 1000", "exten => 1001,2,Hangup()\nexten => 1000"),
    ),
    damage("command", "extension 1001@synergy-internal differs", |t| {
        t.replace("Dial(PJSIP/1001,25)", "System(true)")
    }),
    damage(
        "comment in a step",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001,25)", "Dial(PJSIP/1001;,25)"),
    ),
    damage("include of a missing file", MARKER, |t| {
        format!("#include nowhere.conf\n{t}")
    }),
    damage("end of a block comment", MARKER, |t| {
        t.replace("1001,25)", "1001,25)--;")
    }),
    damage("cut before the marker", MARKER, |t| {
        t[..t.find("[synergy-generation]").unwrap_or(0)].to_owned()
    }),
    damage("no bytes", MARKER, |_| String::new()),
];

const OTHER_DIALPLAN: &[Damage] = &[
    damage(
        "lost extension",
        "extension 1001@synergy-internal is missing",
        |t| t.replace("exten => 1001,1,Dial(PJSIP/1001,25)\n", ""),
    ),
    damage(
        "extension too many",
        "extension 1777@synergy-internal should not be there",
        |t| {
            t.replace(
                "exten => 1001",
                "exten => 1777,1,Dial(PJSIP/1001,25)\nexten => 1001",
            )
        },
    ),
    damage(
        "another one rings",
        "extension 1001@synergy-internal differs",
        |t| t.replace("Dial(PJSIP/1001", "Dial(PJSIP/1000"),
    ),
];

/// What no bundle may hold.
pub(crate) const fn unsound(slot: Slot) -> &'static [Damage] {
    match slot {
        Slot::PjsipEndpoints => PJSIP,
        Slot::DialplanRouting => DIALPLAN,
    }
}

pub(crate) const fn other(slot: Slot) -> &'static [Damage] {
    match slot {
        Slot::PjsipEndpoints => OTHER_PJSIP,
        Slot::DialplanRouting => OTHER_DIALPLAN,
    }
}

/// Each damage with the text that it makes.
pub(crate) fn damaged(slot: Slot, damages: &'static [Damage]) -> Vec<(&'static Damage, String)> {
    let sound = text(&after(), slot);
    let change = |damage: &'static Damage| {
        let text = (damage.change)(&sound);
        assert_ne!(text, sound, "{} changes nothing", damage.name);
        (damage, text)
    };
    damages.iter().map(change).collect()
}
