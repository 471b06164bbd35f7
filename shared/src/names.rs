//! Names of the portal's objects in Asterisk. The portal makes them; both ends tell them from
//! those of other people.
//!
//! A device's endpoint, auth and AOR, and the name it registers with, are `t<tenant>-<extension>-<letter>`;
//! the first device of a user of the default tenant has the plain number. While two passwords are
//! valid there is a second auth `<name>-old`.

/// The number of the default tenant, whose first devices have plain numbers.
pub const DEFAULT_TENANT: u32 = 1;

/// The dialplan context of the default tenant (FR-008).
pub const DEFAULT_CONTEXT: &str = "synergy-internal";

/// What follows the name of an auth that holds the former password.
pub const OLD: &str = "-old";

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The number of the tenant.
    pub tenant: u32,
    /// The extension.
    pub extension: u32,
}

/// The device that an endpoint, auth or AOR is of.
pub fn device(name: &str) -> &str {
    name.strip_suffix(OLD).unwrap_or(name)
}

/// Whose object `name` is, by a name of the portal's own form, `t2-1000-a` or `t2-1000-a-old`.
/// `None` for every other, plain numbers too.
pub fn owner(name: &str) -> Option<Owner> {
    let (tenant, rest) = device(name).strip_prefix('t')?.split_once('-')?;
    let (extension, letter) = rest.split_once('-')?;
    let is_letter = matches!(letter.as_bytes(), [b'a'..=b'z']);
    is_letter.then_some(Owner {
        tenant: number(tenant)?,
        extension: number(extension)?,
    })
}

/// As [`owner`]; a plain number is a device of the default tenant.
pub fn owner_of_object(name: &str) -> Option<Owner> {
    let plain = || {
        let extension = number(device(name))?;
        let tenant = DEFAULT_TENANT;
        Some(Owner { tenant, extension })
    };
    owner(name).or_else(plain)
}

/// The tenant whose context `name` is.
pub fn tenant_of_context(name: &str) -> Option<u32> {
    if name == DEFAULT_CONTEXT {
        return Some(DEFAULT_TENANT);
    }
    number(name.strip_prefix('t')?.strip_suffix("-internal")?)
}

/// A number as the portal writes it: digits, no leading zero.
pub fn number(text: &str) -> Option<u32> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| text.parse().ok()).flatten()
}

/// Whether `text` may be the name of an object: far shorter than the 79 bytes at which Asterisk
/// cuts in silence.
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(plain)
}

/// Whether `text` may be the name of a transport section, which the administrator chose: as
/// [`is_name`], with capitals and `_`.
pub fn is_transport(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=63).contains(&text.len()) && !text.starts_with(['-', '_']) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_portal_tell_whose_they_are() {
        let of = |tenant, extension| Some(Owner { tenant, extension });
        for (name, expected) in [
            ("t1-1000-b", of(1, 1000)),
            ("t2-1000-a", of(2, 1000)),
            ("t2-1000-a-old", of(2, 1000)),
            ("t4294967295-99999999-z", of(u32::MAX, 99_999_999)),
            ("t4294967296-1000-a", None),
            ("t02-1000-a", None),
            ("t0-1000-a", None),
            ("t2-0100-a", None),
            ("t2-1000-A", None),
            ("t2-1000-aa", None),
            ("t2-1000-", None),
            ("t2-1000", None),
            ("t--a", None),
            ("t+2-1000-a", None),
            ("t2-1000-a-older", None),
            ("1000", None),
            ("1000-old", None),
            ("trunk", None),
        ] {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn plain_numbers_belong_to_the_default_tenant() {
        for (name, tenant) in [
            ("1000", Some(1)),
            ("1000-old", Some(1)),
            ("t1-1000-b", Some(1)),
            ("t2-1000-a", Some(2)),
            ("01000", None),
            ("trunk", None),
        ] {
            let expected = tenant.map(|tenant| Owner {
                tenant,
                extension: 1000,
            });
            assert_eq!(owner_of_object(name), expected, "{name}");
        }
    }

    #[test]
    fn contexts_tell_whose_they_are() {
        assert_eq!(tenant_of_context("synergy-internal"), Some(1));
        assert_eq!(tenant_of_context("t17-internal"), Some(17));
        for name in ["t-internal", "t01-internal", "t17", "from-gsm", "t1-1000-a"] {
            assert_eq!(tenant_of_context(name), None, "{name}");
        }
    }
}
