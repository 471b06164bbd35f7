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

/// Two tenants with the same number; the second one's device changes its password.
fn tenants() -> (String, String) {
    let other = "[t2-1000-a]\ntype = endpoint\ncontext = t2-internal\n\
        transport = transport_TLS\ndisallow = all\nallow = opus,g722,ulaw\n\
        auth = t2-1000-a,t2-1000-a-old\naors = t2-1000-a\n\
        [t2-1000-a]\ntype = auth\nauth_type = digest\nusername = t2-1000-a\nrealm = r\n\
        supported_algorithms_uas = SHA-256\nsupported_algorithms_uac = SHA-256\n\
        password_digest = SHA-256:00000000000000000000000000000000\
        00000000000000000000000000000000\n\
        [t2-1000-a-old]\ntype = auth\nauth_type = digest\nusername = t2-1000-a\nrealm = r\n\
        password_digest = MD5:00000000000000000000000000000000\n\
        [t2-1000-a]\ntype = aor\nmax_contacts = 1\n\
        [t2-1000-b]\ntype = endpoint\ncontext = t2-internal\ndisallow = all\n\
        allow = alaw\nauth = t2-1000-b\naors = t2-1000-b\n\
        [t2-1000-b]\ntype = auth\nauth_type = digest\nusername = t2-1000-b\nrealm = r\n\
        password_digest = MD5:00000000000000000000000000000000\n\
        [t2-1000-b]\ntype = aor\nmax_contacts = 1\n[synergy-generation]\ntype = aor";
    let dial = "[t2-internal]\n\
        exten => 1000,1,Dial(PJSIP/t2-1000-a&PJSIP/t2-1000-b,25)\n[synergy-generation]";
    (
        PJSIP.replacen("[synergy-generation]\ntype = aor", other, 1),
        DIALPLAN.replacen("[synergy-generation]", dial, 1),
    )
}

#[test]
fn reads_several_tenants_with_several_devices() {
    let (pjsip, dialplan) = tenants();
    let model = read(&bundle(&pjsip, &dialplan)).expect("a sound bundle");
    assert_eq!(model.endpoints.len(), 4);
    assert_eq!(
        model.contexts["t2-internal"]["1000"],
        ["Dial(PJSIP/t2-1000-a&PJSIP/t2-1000-b,25)"]
    );
}

/// No mistake of rendering lets one tenant reach another, or one device in as another.
#[test]
fn refuses_what_belongs_to_somebody_else() {
    let (pjsip, dialplan) = tenants();
    for (from, to, expected) in [
        ("transport_TLS", "transport TLS", "bad value of transport"),
        ("opus,g722,ulaw", "opus,g722,opus", "bad value of allow"),
        (
            "t2-1000-a,t2-1000-a-old",
            "t2-1000-a,t2-1000-b",
            "bad value of auth",
        ),
        (
            "t2-1000-a,t2-1000-a-old",
            "t2-1000-a-old",
            "its auth is another's",
        ),
        (
            "t2-1000-a,t2-1000-a-old",
            "t2-1000-a,t2-1000-a-old,1000",
            "bad value of auth",
        ),
        (
            "[t2-1000-a-old]",
            "[t2-1000-c-old]",
            "its auth does not exist",
        ),
        ("auth = t2-1000-b", "auth = 1000", "its auth is another's"),
        ("aors = t2-1000-b", "aors = 1000", "its aors is another's"),
        (
            "username = t2-1000-b",
            "username = 1000",
            "its username is another's",
        ),
        (
            "uas = SHA-256",
            "uas = SHA-512-256",
            "algorithms are not that of its digest",
        ),
        (
            "supported_algorithms_uac = SHA-256\n",
            "",
            "algorithms are not that of its digest",
        ),
        (
            "uas = SHA-256",
            "uas = MD5,SHA-256",
            "bad value of supported_algorithms_uas",
        ),
        (
            "SHA-256:0000",
            "SHA-256:000",
            "bad value of password_digest",
        ),
        (
            "context = t2-internal",
            "context = synergy-internal",
            "its context is another tenant's",
        ),
        (
            "context = synergy-internal",
            "context = t2-internal",
            "its context is another tenant's",
        ),
    ] {
        assert!(pjsip.contains(from), "{from}");
        let message = found(&pjsip.replacen(from, to, 1), &dialplan);
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn refuses_steps_that_dial_somebody_else() {
    let (pjsip, dialplan) = tenants();
    for (from, to) in [
        ("PJSIP/t2-1000-b,", "PJSIP/1000,"),
        ("PJSIP/t2-1000-a&", "PJSIP/1000&"),
        ("PJSIP/1000,", "PJSIP/t2-1000-a,"),
    ] {
        let message = found(&pjsip, &dialplan.replacen(from, to, 1));
        assert!(message.contains("of another context"), "{to}: {message}");
    }
    for to in [
        "PJSIP/t2-1000-a&,",
        "PJSIP/t2-1000-a&Local/1,",
        "PJSIP/a/sip:b,",
    ] {
        let message = found(&pjsip, &dialplan.replacen("PJSIP/1000,", to, 1));
        assert!(message.contains("not a step"), "{to}: {message}");
    }
}
