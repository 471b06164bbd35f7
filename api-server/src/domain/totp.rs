//! The second factor: time-based one-time passwords (RFC 6238) with SHA-1, six digits and steps of
//! 30 seconds, because that is what every authenticator app knows.

use std::fmt;
use std::str::FromStr;

use rand::CryptoRng;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox, SecretString};
use time::OffsetDateTime;
use totp_rs::{Algorithm, Builder, Secret, Totp, TotpError};

use super::recovery::RecoveryCode;
use super::{Invalid, Login, redacted};

/// What apps show beside the login.
const ISSUER: &str = "PBX portal";

/// Of a secret, as RFC 4226 wants it.
const SECRET_BYTES: usize = 20;

const DIGITS: u8 = 6;
const STEP_SECONDS: u64 = 30;

/// How far the clock of a phone may be off, in steps, either way.
const STEPS_OFF: u16 = 1;

/// What portal and app know together.
pub struct TotpSecret(SecretBox<[u8; SECRET_BYTES]>);

/// How a secret is entered in an app.
pub struct Enrolment {
    /// In base32, to be typed.
    pub secret: SecretString,
    /// `otpauth://…`, to be shown as a QR code.
    pub uri: SecretString,
}

impl TotpSecret {
    /// A fresh one.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = SecretBox::new(Box::new([0; SECRET_BYTES]));
        rng.fill_bytes(secret.expose_secret_mut());
        Self(secret)
    }

    /// What was kept; `None` when it is of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.try_into().ok()?;
        Some(Self(SecretBox::new(Box::new(bytes))))
    }

    /// The bytes, for sealing.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// How it is entered in an app.
    pub fn enrolment(&self, login: &Login) -> Result<Enrolment, TotpError> {
        let totp = self.builder().with_account_name(login.as_str()).build()?;
        Ok(Enrolment {
            secret: totp.secret().to_base32().into(),
            uri: totp.to_url()?.into(),
        })
    }

    /// The time step that a code is of, if it is right now. Whoever takes it must see to it that
    /// nobody takes one of that step or an earlier one again.
    pub fn step_of(&self, code: &TotpCode, at: OffsetDateTime) -> Option<i64> {
        let seconds = u64::try_from(at.unix_timestamp()).ok()?;
        let step = self.totp().check(code.0.expose_secret(), seconds)?;
        i64::try_from(step).ok()
    }

    fn totp(&self) -> Totp {
        self.builder().build_noncompliant()
    }

    fn builder(&self) -> Builder {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(DIGITS)
            .with_step_duration(STEP_SECONDS)
            .with_skew(STEPS_OFF)
            .with_issuer(Some(ISSUER))
            .with_secret(Secret::new_stack(*self.0.expose_secret()))
    }
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "TotpSecret")
    }
}

/// Six digits of an app.
#[derive(Clone)]
pub struct TotpCode(SecretString);

/// What is typed as a second factor.
#[derive(Clone)]
pub enum Code {
    /// Of an app.
    Totp(TotpCode),
    /// In its place.
    Recovery(RecoveryCode),
}

impl FromStr for Code {
    type Err = Invalid;

    /// Spaces do not matter.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits: String = text
            .chars()
            .filter(|char| *char != ' ')
            .take(usize::from(DIGITS) + 1)
            .collect();
        let numeric = digits.bytes().all(|byte| byte.is_ascii_digit());
        if numeric && digits.len() == usize::from(DIGITS) {
            return Ok(Self::Totp(TotpCode(digits.into())));
        }
        let malformed = Invalid::new(
            "malformed",
            "must be six digits, or a recovery code such as abcd-efgh-ijkl-mnop",
        );
        text.parse().map(Self::Recovery).map_err(|_| malformed)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "Code")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::os_rng;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn step(secret: &TotpSecret, code: &str, seconds: i64) -> Option<i64> {
        match code.parse().unwrap() {
            Code::Totp(code) => secret.step_of(&code, at(seconds)),
            Code::Recovery(_) => None,
        }
    }

    /// RFC 6238, appendix B, the last six of eight digits.
    #[test]
    fn the_codes_are_those_of_the_rfc() {
        let secret = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step(&secret, code, seconds), Some(seconds / 30), "{code}");
            let spaced = format!("{} {}", &code[..3], &code[3..]);
            assert_eq!(step(&secret, &spaced, seconds), Some(seconds / 30));
            for (off, taken) in [(-60, false), (-30, true), (30, true), (60, false)] {
                let found = step(&secret, code, seconds + off);
                assert_eq!(found.is_some(), taken, "{code} {off}");
            }
        }
    }

    #[test]
    fn a_secret_is_entered_by_hand_or_by_uri_and_shown_nowhere_else() {
        let secret = TotpSecret::generate(&mut os_rng());
        let login = "ann@example.org".parse().unwrap();
        let enrolment = secret.enrolment(&login).unwrap();
        let typed = enrolment.secret.expose_secret();
        assert_eq!(typed.len(), 32);
        assert_eq!(
            enrolment.uri.expose_secret(),
            format!(
                "otpauth://totp/PBX%20portal:ann%40example.org?secret={typed}&issuer=PBX%20portal"
            )
        );
        assert!(!format!("{secret:?}").contains(char::is_numeric));
        assert!(TotpSecret::from_bytes(b"short").is_none());
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for bad in [
            "",
            "12345",
            "1234567",
            "12345a",
            "١٢٣٤٥٦",
            "+12345",
            "abcd-efgh",
        ] {
            assert_eq!(bad.parse::<Code>().unwrap_err().code, "malformed", "{bad}");
        }
    }
}
