use super::*;
use crate::clock::os_rng;

#[test]
fn secrets_are_long_different_and_never_shown() {
    let (one, other) = (
        RefreshToken::generate(&mut os_rng()),
        RefreshToken::generate(&mut os_rng()),
    );
    assert!(one.expose().starts_with("pbxr_") && one.expose().len() == 48);
    assert_ne!(one.expose(), other.expose());
    assert_ne!(one.hash(), other.hash());
    let again: RefreshToken = one.expose().parse().unwrap();
    assert_eq!(again.hash(), one.hash());
    let cookie = CookieSecret::generate(&mut os_rng());
    assert_eq!(cookie.expose().len(), 43);
    let token = cookie.csrf_token();
    assert!(token.is(token.expose().as_bytes()));
    assert!(!token.is(b"") && !token.is(&token.expose().as_bytes()[..42]));
    assert!(!token.is(cookie.expose().as_bytes()));
    let shown = format!("{one:?} {cookie:?} {token:?}");
    for secret in [one.expose(), cookie.expose(), token.expose()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn what_is_no_secret_is_refused() {
    let good = CookieSecret::generate(&mut os_rng());
    let good = good.expose();
    for bad in [
        "",
        &good[1..],
        &format!("{good}A"),
        &format!("{good}="),
        &format!("pbxr_{good}"),
        &good.replace(|c: char| c.is_ascii_alphanumeric(), "+"),
    ] {
        assert!(CookieSecret::read(bad).is_none(), "{bad}");
    }
    assert!(good.parse::<RefreshToken>().is_err());
}

#[test]
fn logins_and_user_agents_are_one_line() {
    let login: TypedLogin = " Ann@Example.org ".parse().unwrap();
    assert_eq!(login.as_str(), "ann@example.org");
    assert!(!format!("{login:?}").contains("ann"));
    for bad in ["", " ", "a\nb", "a\u{2028}b", &"a".repeat(255)] {
        assert!(bad.parse::<TypedLogin>().is_err(), "{bad:?}");
    }
    let agent = UserAgent::of(b" curl/8\n\x1b[31m\xff\xe2\x80\xa8x ");
    assert_eq!(agent.as_str(), "curl/8[31m\u{fffd}x");
    let long = UserAgent::of("é".repeat(500).as_bytes());
    assert_eq!(long.as_str().chars().count(), 200);
}

#[test]
fn an_ipv6_network_is_one() {
    let network = |text: &str| Network::from(text.parse::<IpAddr>().unwrap()).to_string();
    assert_eq!(network("192.0.2.1"), "192.0.2.1");
    assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_ne!(network("2001:db8:1:3::1"), network("2001:db8:1:2::1"));
}
