//! An Asterisk host with its agent.

use std::fmt;
use std::str::FromStr;

use super::{Invalid, typed_id};

typed_id! {
    /// Which PBX.
    PbxId
}

/// The PBX that the first migration creates, and the only one so far.
pub const DEFAULT_PBX: PbxId = PbxId(uuid::uuid!("01900000-0000-7000-8000-000000000001"));

/// The realm of SIP digests: `H(user:realm:password)` holds for this realm only, so changing it
/// invalidates every digest on the PBX until the next apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipRealm(String);

impl SipRealm {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SipRealm {
    type Err = Invalid;

    /// `^[a-z0-9][a-z0-9.-]{0,62}$`: it is written into Asterisk's files and into SIP headers.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.as_bytes().first().is_some_and(alphanumeric);
        let rest = text
            .bytes()
            .all(|byte| alphanumeric(&byte) || matches!(byte, b'.' | b'-'));
        if first && rest && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "a realm is 1 to 63 of a-z, 0-9, '.' and '-', and begins with a letter or digit",
            ))
        }
    }
}

impl fmt::Display for SipRealm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms() {
        for good in ["synergycall", "a", "0.b-c", &"a".repeat(63)] {
            assert!(good.parse::<SipRealm>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "A",
            "a b",
            "a\"",
            "a;",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<SipRealm>().is_err(), "{bad:?}");
        }
    }
}
