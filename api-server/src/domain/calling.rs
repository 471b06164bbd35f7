//! How calls of a user go: who is shown outside, voicemail, do not disturb, forwarding.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::audit::SECRET;
use super::patch::{Patch, set};
use super::{Invalid, redacted};

/// A number that can be dialled: an extension, or a number outside with or without `+`; 1 to 20
/// digits. Nothing else ever reaches the dialplan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialNumber(String);

impl DialNumber {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DialNumber {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        if (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::new(
                "malformed",
                "must be 1 to 20 digits, with or without a leading +",
            ))
        }
    }
}

/// How long a phone rings before a call goes where `no_answer` says, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardDelay(u8);

impl ForwardDelay {
    /// Unless told otherwise: as long as a phone rings (FR-008).
    pub const DEFAULT: Self = Self(25);

    /// In seconds.
    pub const fn seconds(self) -> u8 {
        self.0
    }
}

impl TryFrom<u32> for ForwardDelay {
    type Error = Invalid;

    fn try_from(seconds: u32) -> Result<Self, Invalid> {
        match u8::try_from(seconds) {
            Ok(seconds @ 5..=120) => Ok(Self(seconds)),
            Ok(_) | Err(_) => Err(Invalid::new("out_of_range", "must be 5 to 120 seconds")),
        }
    }
}

/// What opens a voicemail box: 4 to 10 digits. Stored hashed, never shown.
#[derive(Clone)]
pub struct VoicemailPin(SecretString);

impl VoicemailPin {
    /// The clear text, for hashing.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for VoicemailPin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if (4..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned().into()))
        } else {
            Err(Invalid::new("malformed", "must be 4 to 10 digits"))
        }
    }
}

impl fmt::Debug for VoicemailPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "VoicemailPin")
    }
}

/// The Argon2id hash of a PIN, in the PHC string format. Few digits are soon tried, so it is a
/// secret as well.
#[derive(Clone, PartialEq, Eq)]
pub struct PinHash(String);

impl PinHash {
    /// What hashing made, or what is stored.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the database.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "PinHash")
    }
}

/// Where calls go that are not taken. `None`: nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallForward {
    /// Every call.
    pub always: Option<DialNumber>,
    /// While the user speaks.
    pub busy: Option<DialNumber>,
    /// After `delay`.
    pub no_answer: Option<DialNumber>,
    /// While no phone is registered.
    pub unregistered: Option<DialNumber>,
    /// How long to ring first.
    pub delay: ForwardDelay,
}

impl Default for CallForward {
    fn default() -> Self {
        Self {
            always: None,
            busy: None,
            no_answer: None,
            unregistered: None,
            delay: ForwardDelay::DEFAULT,
        }
    }
}

/// How calls of a user go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallSettings {
    /// What is shown to whoever is called outside; the trunk's number when there is none.
    pub outbound_caller_id: Option<DialNumber>,
    /// Whether unanswered calls are taken by voicemail.
    pub voicemail_enabled: bool,
    /// Opens the box.
    pub voicemail_pin: Option<PinHash>,
    /// Do not disturb.
    pub dnd: bool,
    /// Where calls go that are not taken.
    pub forward: CallForward,
}

/// A partial change of [`CallForward`].
#[derive(Clone, Debug, Default)]
pub struct CallForwardPatch {
    /// As of [`CallForward`].
    pub always: Patch<DialNumber>,
    /// As of [`CallForward`].
    pub busy: Patch<DialNumber>,
    /// As of [`CallForward`].
    pub no_answer: Patch<DialNumber>,
    /// As of [`CallForward`].
    pub unregistered: Patch<DialNumber>,
    /// As of [`CallForward`].
    pub delay: Option<ForwardDelay>,
}

/// A partial change of [`CallSettings`], with a PIN that is hashed already.
#[derive(Clone, Debug, Default)]
pub struct CallSettingsPatch<P = PinHash> {
    /// As of [`CallSettings`].
    pub outbound_caller_id: Patch<DialNumber>,
    /// As of [`CallSettings`].
    pub voicemail_enabled: Option<bool>,
    /// As of [`CallSettings`].
    pub voicemail_pin: Patch<P>,
    /// As of [`CallSettings`].
    pub dnd: Option<bool>,
    /// As of [`CallSettings`].
    pub forward: CallForwardPatch,
}

impl<P> CallSettingsPatch<P> {
    /// Whether it says anything of how calls go, which the user may change as well. The number that is
    /// shown outside is none of it.
    pub fn is_of_calls(&self) -> bool {
        let forward = &self.forward;
        let numbers = [
            &forward.always,
            &forward.busy,
            &forward.no_answer,
            &forward.unregistered,
        ];
        self.voicemail_enabled.is_some()
            || !matches!(self.voicemail_pin, Patch::Keep)
            || self.dnd.is_some()
            || forward.delay.is_some()
            || numbers.iter().any(|number| **number != Patch::Keep)
    }

    /// Without what is so already.
    #[must_use]
    pub fn differing(self, now: &CallSettings) -> Self {
        let (forward, to) = (self.forward, &now.forward);
        Self {
            outbound_caller_id: self
                .outbound_caller_id
                .unless_already(now.outbound_caller_id.as_ref()),
            voicemail_enabled: self
                .voicemail_enabled
                .filter(|on| *on != now.voicemail_enabled),
            voicemail_pin: self.voicemail_pin,
            dnd: self.dnd.filter(|on| *on != now.dnd),
            forward: CallForwardPatch {
                always: forward.always.unless_already(to.always.as_ref()),
                busy: forward.busy.unless_already(to.busy.as_ref()),
                no_answer: forward.no_answer.unless_already(to.no_answer.as_ref()),
                unregistered: forward
                    .unregistered
                    .unless_already(to.unregistered.as_ref()),
                delay: forward.delay.filter(|delay| *delay != to.delay),
            },
        }
    }

    /// The same with another PIN.
    pub fn with_pin<Q>(self, voicemail_pin: Patch<Q>) -> CallSettingsPatch<Q> {
        CallSettingsPatch {
            outbound_caller_id: self.outbound_caller_id,
            voicemail_enabled: self.voicemail_enabled,
            voicemail_pin,
            dnd: self.dnd,
            forward: self.forward,
        }
    }
}

impl CallSettings {
    /// What the audit trail keeps of them: members of a user. The PIN is a secret.
    pub fn told(&self) -> [(&'static str, Value); 4] {
        let number = |number: &Option<DialNumber>| number.as_ref().map(|n| n.as_str().to_owned());
        let forward = &self.forward;
        [
            (
                "outbound_caller_id",
                json!(number(&self.outbound_caller_id)),
            ),
            (
                "voicemail",
                json!({
                    "enabled": self.voicemail_enabled,
                    "pin": self.voicemail_pin.as_ref().map(|_| SECRET),
                }),
            ),
            ("dnd", json!(self.dnd)),
            (
                "call_forward",
                json!({
                    "always": number(&forward.always),
                    "busy": number(&forward.busy),
                    "no_answer": number(&forward.no_answer),
                    "unregistered": number(&forward.unregistered),
                    "delay_seconds": forward.delay.seconds(),
                }),
            ),
        ]
    }

    /// Changes what `patch` names.
    pub fn apply(&mut self, patch: CallSettingsPatch) {
        patch.outbound_caller_id.apply(&mut self.outbound_caller_id);
        set(&mut self.voicemail_enabled, patch.voicemail_enabled);
        patch.voicemail_pin.apply(&mut self.voicemail_pin);
        set(&mut self.dnd, patch.dnd);
        let forward = patch.forward;
        forward.always.apply(&mut self.forward.always);
        forward.busy.apply(&mut self.forward.busy);
        forward.no_answer.apply(&mut self.forward.no_answer);
        forward.unregistered.apply(&mut self.forward.unregistered);
        set(&mut self.forward.delay, forward.delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_pins_are_digits() {
        for good in ["1", "+420123456789", "00420", &"9".repeat(20)] {
            assert!(good.parse::<DialNumber>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "+",
            "++1",
            "1+",
            "1 2",
            "1,2",
            "1&2",
            "${EXTEN}",
            "١",
            &"9".repeat(21),
        ] {
            assert!(bad.parse::<DialNumber>().is_err(), "{bad}");
        }
        assert!("0000".parse::<VoicemailPin>().is_ok());
        for bad in ["", "123", "12345678901", "12a4", " 1234", "1234\n"] {
            assert!(bad.parse::<VoicemailPin>().is_err(), "{bad:?}");
        }
        let pin: VoicemailPin = "4711".parse().unwrap();
        assert!(!format!("{pin:?}").contains("4711"));
    }

    #[test]
    fn delays() {
        assert_eq!(ForwardDelay::try_from(5).unwrap().seconds(), 5);
        for bad in [0, 4, 121, 300] {
            assert!(ForwardDelay::try_from(bad).is_err(), "{bad}");
        }
    }
}
