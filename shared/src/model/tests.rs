use super::*;

const PJSIP: &str = "; header\n\
    [1000]\ntype = endpoint\ncontext = synergy-internal\ndisallow = all\nallow = ulaw,alaw\n\
    auth = 1000\naors = 1000\ncallerid = \"A \\\"B\\\" C\\\\\" <1000>\n\
    [1000]\ntype = auth\nauth_type = digest\nusername = 1000\nrealm = r\n\
    password_digest = MD5:0123456789abcdef0123456789abcdef\n\
    [1000]\ntype = aor\nmax_contacts = 1\n\
    [synergy-generation]\ntype = aor\nmax_contacts = 0\nvoicemail_extension = g-1\n\
    [synergy-generation]\ntype = auth\nauth_type = digest\nusername = g-1\n\
    password_digest = MD5:00000000000000000000000000000000\n\
    [synergy-generation]\ntype = endpoint\ncontext = synergy-generation\ndisallow = all\n\
    auth = synergy-generation\naccountcode = g-1\n";
const DIALPLAN: &str = "; header\n\
    [synergy-internal]\nexten => 1000,1,Dial(PJSIP/1000,25)\n\
    [synergy-generation]\nexten => generation,1,NoOp(g-2)\n";

fn bundle(pjsip: &str, dialplan: &str) -> Bundle {
    let files = BTreeMap::from([
        (Slot::PjsipEndpoints, pjsip.as_bytes().to_vec()),
        (Slot::DialplanRouting, dialplan.as_bytes().to_vec()),
    ]);
    Bundle {
        files,
        reserved_numbers: Vec::new(),
    }
}

fn found(pjsip: &str, dialplan: &str) -> String {
    let findings = read(&bundle(pjsip, dialplan))
        .err()
        .expect("nothing was found");
    findings
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn reads_what_the_portal_renders() {
    let model = read(&bundle(PJSIP, DIALPLAN)).expect("a sound bundle");
    assert_eq!(model.generation(Slot::PjsipEndpoints), "g-1");
    assert_eq!(model.generation(Slot::DialplanRouting), "g-2");
    assert_eq!(
        model.endpoints["1000"].get("callerid"),
        Some(r#""A \"B\" C\\" <1000>"#)
    );
    assert_eq!(
        model.contexts["synergy-internal"]["1000"],
        ["Dial(PJSIP/1000,25)"]
    );
    assert_eq!(model.aors.len() + model.auths.len(), 4);
}

/// Each of these loads "successfully" in Asterisk 22 and is not what it says.
#[test]
fn refuses_what_asterisk_answers_with_silence() {
    let pjsip = |from: &str, to: &str| {
        assert!(PJSIP.contains(from));
        found(&PJSIP.replacen(from, to, 1), DIALPLAN)
    };
    for (from, to, expected) in [
        ("aors = 1000", "aors = 1009", "its aors does not exist"),
        ("auth = 1000", "auth = 1009", "its auth does not exist"),
        (
            "context = synergy-internal",
            "context = elsewhere",
            "its context does not exist",
        ),
        ("aors = 1000", "aors 1000", "assigns nothing"),
        ("disallow = all", "disalow = all", "unknown option disalow"),
        (
            "allow = ulaw,alaw",
            "allow = ulaw,alow",
            "bad value of allow",
        ),
        (
            "max_contacts = 1",
            "max_contacts = one",
            "bad value of max_contacts",
        ),
        (
            "max_contacts = 1",
            "max_contacts = 1\nmax_contacts = 2",
            "stands twice",
        ),
        ("type = aor", "type = aorta", "unknown type"),
        ("type = aor\n", "", "does not begin with a type"),
        (
            "[1000]\ntype = auth",
            "[1000\ntype = auth",
            "malformed section header",
        ),
        (
            "[1000]\ntype = aor",
            "[1000](!)\ntype = aor",
            "malformed section header",
        ),
        ("C\\\\\" <1000>", "C\\\" <1000>", "bad value of callerid"),
        ("\"A ", "\"A --;", "block comment"),
        ("MD5:01", "MD5:0Z", "bad value of password_digest"),
        (
            "voicemail_extension = g-1",
            "voicemail_extension = g-3",
            "markers",
        ),
    ] {
        let message = pjsip(from, to);
        assert!(message.contains(expected), "{to}: {message}");
    }
    let twice = format!("{PJSIP}[1000]\ntype = aor\n");
    assert!(found(&twice, DIALPLAN).contains("aor [1000] stands twice"));
}

#[test]
fn refuses_dialplan_that_fails_only_when_it_is_dialled() {
    for (line, expected) in [
        (
            "exten => 1000,1,Dial(PJSIP/1000,25)",
            "priority 1 is out of turn",
        ),
        (
            "exten => 1001,2,Dial(PJSIP/1000,25)",
            "priority 2 is out of turn",
        ),
        (
            "exten => 1001,1,Dial(PJSIP/1009,25)",
            "dials a missing endpoint",
        ),
        ("exten => 1001,1,Dail(PJSIP/1000,25)", "not a step"),
        ("exten => 1001,1,System(id)", "not a step"),
        ("exten => 1001,1,Dial(PJSIP/${EXTEN},25)", "not a step"),
        ("exten => _X.,1,Dial(PJSIP/1000,25)", "not a step"),
        ("exten => 1001,1,NoOp(unclosed", "not a step"),
        ("include => nowhere", "not a step"),
        ("exten => 1001,1,Goto(nowhere,s,1)", "not a step"),
        ("exten => 1001,1,Gosub(nowhere,s,1)", "not a step"),
        (
            "exten => 1001,1,NoOp(x)\nexten => 1001,n,Hangup()",
            "not a step",
        ),
        (
            "[synergy-internal]",
            "context [synergy-internal] stands twice",
        ),
        ("exten 1001,1,NoOp(x)", "assigns nothing"),
    ] {
        let broken = DIALPLAN.replace("[synergy-gen", &format!("{line}\n[synergy-gen"));
        let message = found(PJSIP, &broken);
        assert!(message.contains(expected), "{line}: {message}");
    }
    assert!(found(PJSIP, "").contains("markers") || found(PJSIP, "").contains("context"));
}
