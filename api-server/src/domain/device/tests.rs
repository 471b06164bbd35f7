use super::*;

#[test]
fn slots_have_letters() {
    let letters: String = DeviceSlot::all().map(DeviceSlot::letter).collect();
    assert_eq!(letters, "abcdefghijklmnopqrstuvwxyz");
    for bad in [0, 27, 256, 257, u32::MAX] {
        assert!(DeviceSlot::try_from(bad).is_err(), "{bad}");
    }
    assert_eq!(DeviceSlot::try_from(1), Ok(DeviceSlot::FIRST));
}

#[test]
fn labels_are_one_short_line() {
    let longest = "é".repeat(60);
    for good in ["Desk", " Mobile app ", "x;y", longest.as_str()] {
        assert_eq!(good.parse::<DeviceLabel>().unwrap().as_str(), good.trim());
    }
    for (bad, code) in [
        ("", "empty"),
        ("  ", "empty"),
        (&*"é".repeat(61), "too_long"),
        ("a\nb", "control_character"),
        ("a\u{2028}b", "control_character"),
    ] {
        assert_eq!(bad.parse::<DeviceLabel>().unwrap_err().code, code);
    }
}

#[test]
fn words_read_back() {
    for algorithm in DigestAlgorithm::ALL {
        assert_eq!(DigestAlgorithm::from_name(algorithm.name()), Ok(algorithm));
    }
    for transport in Transport::ALL {
        assert_eq!(Transport::from_name(transport.name()), Ok(transport));
    }
    for word in ["", "MD5", "md5 ", "sha-256"] {
        assert!(DigestAlgorithm::from_name(word).is_err(), "{word}");
    }
}

#[test]
fn codecs_are_a_list_without_repeats() {
    let names: Vec<&str> = Codecs::default().names().collect();
    assert_eq!(names, ["ulaw", "alaw"]);
    let chosen = Codecs::from_names(["opus", "g722", "alaw", "ulaw"]).unwrap();
    assert_eq!(chosen.as_slice()[..2], [Codec::Opus, Codec::G722]);
    for (bad, code) in [
        (&[][..], "empty"),
        (&["ulaw", "alaw", "ulaw"], "duplicate"),
        (&["gsm"], "unknown_value"),
    ] {
        assert_eq!(Codecs::from_names(bad.to_vec()).unwrap_err().code, code);
    }
}

#[test]
fn transport_sections_can_be_no_configuration() {
    for good in [
        "transport-udp",
        "transport_tls",
        "TLS",
        "0",
        &"a".repeat(63),
    ] {
        assert!(good.parse::<TransportSection>().is_ok(), "{good}");
    }
    for bad in [
        "",
        "-a",
        "_a",
        "a b",
        "a;b",
        "a]",
        "a,b",
        "é",
        &"a".repeat(64),
    ] {
        assert!(bad.parse::<TransportSection>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_are_what_asterisk_knows_a_device_by() {
    let name = |tenant: u32, extension: u32, slot: u32| {
        let tenant = tenant.try_into().unwrap();
        let (extension, slot) = (extension.try_into().unwrap(), slot.try_into().unwrap());
        endpoint_name(tenant, extension, slot).to_string()
    };
    assert_eq!(name(1, 1000, 1), "1000");
    assert_eq!(name(1, 1000, 2), "t1-1000-b");
    assert_eq!(name(2, 1000, 1), "t2-1000-a");
    assert_eq!(name(2, 1000, 26), "t2-1000-z");
    let context = |tenant: u32| context_name(tenant.try_into().unwrap()).to_string();
    assert_eq!(context(1), "synergy-internal");
    assert_eq!(context(17), "t17-internal");
}
