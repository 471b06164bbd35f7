use super::*;

const RELOADED: &str = "\
No ethernet interface found for seeding global EID. You will have to set it manually.
Module 'res_pjsip.so' reloaded successfully.
Module 'res_pjsip_authenticator_digest.so' reloaded successfully.
The module 'res_pjsip_notify.so' was not properly initialized. Before reloading the module, you \
must run \"module load res_pjsip_notify.so\" and fix whatever is preventing the module from being \
initialized.
No such module 'res_pjsip_publish_asterisk.so'
";

#[test]
fn reads_reloads() {
    assert_eq!(pjsip_reload(RELOADED), ReloadAnswer::Done);
    assert_eq!(dialplan_reload("Dialplan reloaded.\n"), ReloadAnswer::Done);
    assert_eq!(pjsip_reload("\n"), ReloadAnswer::Silent);
    let busy = "A module reload request is already in progress; please be patient\n".repeat(8);
    assert_eq!(pjsip_reload(&busy), ReloadAnswer::InProgress);
    let booting = "Asterisk cannot reload a module yet; request queued\n";
    assert_eq!(pjsip_reload(booting), ReloadAnswer::InProgress);
}

#[test]
fn reads_refusals() {
    let unknown = "No such command 'pjsip reload' (type 'core show help pjsip reload' for other \
                   possible commands)\n";
    let refused = |answer| match pjsip_reload(answer) {
        ReloadAnswer::Refused(error) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(unknown), AnswerError::NoSuchCommand(_)));
    let forbidden = "You don't have permissions to run 'pjsip reload' command\n";
    assert!(matches!(refused(forbidden), AnswerError::NotPermitted(_)));
    let failed = "Module 'res_pjsip.so' failed to reload.\n";
    assert!(matches!(refused(failed), AnswerError::Unreadable(_)));
    assert!(matches!(
        list("Aor", 1, forbidden),
        Err(AnswerError::NotPermitted(_))
    ));
    assert!(matches!(
        dialplan(1, unknown),
        Err(AnswerError::NoSuchCommand(_))
    ));
}

const ENDPOINTS: &str = "
 Endpoint:  <Endpoint/CID.....................................>  <State.....>  <Channels.>
==========================================================================================

 Endpoint:  1000/1000                                            Unavailable   0 of inf
 Endpoint:  cod                                                  Not in use    0 of inf
 Endpoint:  sp ace/1234                                          Unavailable   0 of inf
 Endpoint:  synergy-generation                                   Unavailable   0 of inf

Objects found: 4

";

#[test]
fn reads_lists() {
    let names = list("Endpoint", 1, ENDPOINTS).unwrap();
    assert_eq!(
        names,
        BTreeSet::from(["1000", "cod", "sp ace", "synergy-generation"].map(Into::into))
    );
    let auths = "
  I/OAuth:  <AuthId/UserName.............................................................>
==========================================================================================

     Auth:  1000/1000
     Auth:  synergy-generation/g-4b49be66f1098471

Objects found: 2

";
    assert_eq!(list("Auth", 1, auths).unwrap().len(), 2);
    let aors = "
      Aor:  <Aor..............................................>  <MaxContact>
==========================================================================================

      Aor:  1000                                                 1
      Aor:  synergy-generation                                   0

Objects found: 2

";
    assert!(list("Aor", 1, aors).unwrap().contains("1000"));
    assert!(list("Aor", 1, "No objects found.\n\n").unwrap().is_empty());
}

#[test]
fn a_list_without_its_end_is_no_list() {
    for cut in ["", "Objects found: 4", "Objects found: 5"] {
        let text = ENDPOINTS.replace("Objects found: 4", cut);
        assert_eq!(
            list("Endpoint", 1, &text).is_ok(),
            cut == "Objects found: 4",
            "{cut}"
        );
    }
    let half = &ENDPOINTS[..ENDPOINTS.len() / 2];
    assert!(list("Endpoint", 1, half).is_err());
    assert!(list("Endpoint", 1, "").is_err());
}

const SHOWN: &str = "
      Aor:  <Aor..............................................>  <MaxContact>
    Contact:  <Aor/ContactUri............................> <Hash....> <Status> <RTT(ms)..>
==========================================================================================

      Aor:  1000                                                 1


 ParameterName        : ParameterValue
 =====================================
 authenticate_qualify : false
 contact              : sip:1000@127.0.0.1:5080
 max_contacts         : 1
 voicemail_extension  :

Unable to find object 1999.


      Aor:  <Aor..............................................>  <MaxContact>
==========================================================================================

      Aor:  synergy-generation                                   0


 ParameterName        : ParameterValue
 =========================================
 max_contacts         : 0
 voicemail_extension  : g-4b49be66f1098471

";

#[test]
fn reads_several_objects_of_one_answer() {
    let shown = show(3, SHOWN).unwrap();
    let first = shown[0].as_ref().unwrap();
    assert_eq!(first["contact"], "sip:1000@127.0.0.1:5080");
    assert_eq!(
        (
            first["max_contacts"].as_str(),
            first["voicemail_extension"].as_str()
        ),
        ("1", "")
    );
    assert!(shown[1].is_none());
    assert_eq!(
        shown[2].as_ref().unwrap()["voicemail_extension"],
        "g-4b49be66f1098471"
    );
    assert!(show(4, SHOWN).is_err());
}

const CONTEXT: &str = "\
[ Context 'inc' created by 'pbx_config' ]
  '1' =>            hint: PJSIP/1000                              [x.conf:13]
                    1. NoOp(a)                                    [x.conf:10]
     [lab]          2. Dial(PJSIP/1000,25)                        [x.conf:11]
                    3. Set(ARRAY(a,b)=${X[1]} [z])                [x.conf:12]
  '_2XX' =>         1. Dial(PJSIP/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,25) [x.conf:14]
  Include =>        'synergy-internal'                            [pbx_config]
  Ignore pattern => '9'                                           [pbx_config]
  Alt. Switch =>    'Realtime/x'                                  [pbx_config]

-= 2 extensions (5 priorities) in 1 context. =-
";

#[test]
fn reads_a_context() {
    let extensions = dialplan(1, CONTEXT).unwrap().remove(0).unwrap();
    assert_eq!(extensions["1"][0], "hint: PJSIP/1000");
    assert_eq!(extensions["1"][1], "NoOp(a)");
    assert_eq!(extensions["1"][3], "Set(ARRAY(a,b)=${X[1]} [z])");
    assert!(extensions["_2XX"][0].ends_with("a,25)"));
    assert_eq!(
        extensions.len(),
        5,
        "an include, a pattern and a switch count: {extensions:?}"
    );
    let cut = CONTEXT.replace("5 priorities", "6 priorities");
    assert!(dialplan(1, &cut).is_err() && dialplan(1, "").is_err());
    let none = "There is no existence of 'nope' context\nCommand 'dialplan show nope' failed.\n";
    assert_eq!(dialplan(1, none), Ok(vec![None]));
    let empty = "[ Context 'empty' created by 'pbx_config' ]\n\n\
                 -= 0 extensions (0 priorities) in 1 context. =-\n";
    assert_eq!(dialplan(1, empty), Ok(vec![Some(Extensions::new())]));
}

#[test]
fn reads_several_contexts_of_one_answer() {
    let none = "There is no existence of 'nope' context\nCommand 'dialplan show nope' failed.\n";
    let answer = [CONTEXT, none, CONTEXT].concat();
    let contexts = dialplan(3, &answer).unwrap();
    assert!(contexts[1].is_none());
    assert_eq!(contexts[0], contexts[2]);
    assert_eq!(contexts[0].as_ref().unwrap().len(), 5);
    // Each must be whole, and none may be missing.
    for wrong in [
        answer.replacen("5 priorities", "4 priorities", 1),
        [CONTEXT, none].concat(),
        answer[..answer.len() - 60].to_owned(),
    ] {
        assert!(dialplan(3, &wrong).is_err(), "{wrong}");
    }
}

#[test]
fn reads_contacts() {
    let answer = "/registrar/contact/1000;@0123456789abcdef0123456789abcdef: {uri}            \n\
                  /registrar/contact/t1-1000-a;@ff: {\"via_addr\":\"127.0.0.1\",\"uri\":\"sip:1000@[::1]:5\",\"user_agent\":\"A: b\"}\n\
                  2 results found.\n";
    let contacts = contacts(answer).unwrap();
    assert_eq!(contacts[0].hash, "0123456789abcdef0123456789abcdef");
    assert_eq!(contacts[0].phone, Phone::default());
    assert_eq!(
        contacts[1],
        Contact {
            aor: "t1-1000-a".into(),
            hash: "ff".into(),
            phone: Phone {
                uri: "sip:1000@[::1]:5".into(),
                user_agent: "A: b".into(),
            },
        }
    );
    assert_eq!(super::contacts("0 results found.\n"), Ok(Vec::new()));
    assert!(super::contacts("/registrar/contact/1000;@01: {}\n").is_err());
}
