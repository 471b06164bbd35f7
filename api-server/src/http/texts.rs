//! What the texts of bodies may be, as the document says it. `domain` is what reads and refuses them;
//! `tests/integration/http/values.rs` sees that the two agree.
//!
//! What a pattern cannot say stands in the description: lengths in bytes, for one.

use std::borrow::Cow;

use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::Permission;

/// Declares texts by their patterns, in the dialect of ECMA 262, with an example of each.
macro_rules! texts {
    ($($(#[doc = $about:literal])+ $name:ident = $pattern:expr, $example:literal $(, at most $max:literal)?;)+) => {
        $(
            $(#[doc = $about])+
            pub(super) enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let about = concat!($($about, "\n"),+);
                    let text = ObjectBuilder::new()
                        .schema_type(Type::String)
                        .description(Some(about.trim()))
                        .pattern(Some($pattern))
                        $(.max_length(Some($max)))?
                        .examples([json!($example)]);
                    RefOr::T(text.build().into())
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    stringify!($name).into()
                }
            }
        )+
    };
}

/// What may surround a text without being part of it: Unicode's white space.
macro_rules! white {
    () => {
        r"[\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]*"
    };
}

/// A character that is neither white space nor breaks a line.
macro_rules! ink {
    () => {
        r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]"
    };
}

/// One line with at most so many characters between the first and the last one.
macro_rules! one_line {
    ($between:literal) => {
        concat!(
            "^",
            white!(),
            ink!(),
            r"(?:[^\u0000-\u001F\u007F-\u009F\u2028\u2029]{0,",
            $between,
            "}",
            ink!(),
            ")?",
            white!(),
            "$"
        )
    };
}

texts! {
    /// 1 to 100 characters, at most 200 bytes, one line. Blanks around it do not count.
    NameText = one_line!(98), "Ann Example";

    /// 1 to 60 characters, one line. Blanks around it do not count.
    LabelText = one_line!(58), "Desk phone";

    /// 1 to 254 characters, one line. Capitals and blanks around it do not count.
    TypedLoginText = one_line!(252), "ann@example.org";

    /// 2 to 254 of `a-z`, `0-9`, `.`, `_`, `@`, `+` and `-`, beginning with a letter or digit. Capitals
    /// are taken as small letters.
    LoginText = "^[A-Za-z0-9][A-Za-z0-9._@+-]{1,253}$", "ann@example.org";

    /// An e-mail address as SMTP takes it: at most 254 characters, 64 of them before the `@`.
    EmailText = concat!(
        r"^[A-Za-z0-9!#$%&'*+/=?^_`{}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{}~-]+)*",
        r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
        r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$"
    ), "ann@example.com", at most 254;

    /// What can be dialled: 1 to 20 digits with or without a leading `+`.
    DialNumberText = r"^\+?[0-9]{1,20}$", "+420123456789";

    /// 4 to 10 digits.
    PinText = "^[0-9]{4,10}$", "4711";

    /// 1 to 32 of `a-z`, `0-9` and, within, `-`.
    SlugText = "^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$", "acme";

    /// 1 to 32 of `a-z`, `0-9` and `-`, beginning with a letter or digit.
    PbxNameText = "^[a-z0-9][a-z0-9-]{0,31}$", "branch";

    /// The id or the name of a PBX.
    PbxRefText = concat!(
        "^(?:[a-z0-9][a-z0-9-]{0,31}",
        "|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"
    ), "default";

    /// `host:port`, the host a name or an address (IPv6 in brackets); at most 259 bytes.
    AgentAddressText = r"^(?:\[[^/]*\]|[^/:]+):[0-9]*[1-9][0-9]*$", "pbx.branch.example:50051", at most 259;

    /// Whom the certificate of an agent names; at most 200 characters.
    AgentIdentityText = "^spiffe://[a-z0-9.-]+/agent/[a-z0-9.-]+$", "spiffe://pbx.internal/agent/branch", at most 200;

    /// 1 to 63 of `a-z`, `0-9`, `.` and `-`, beginning with a letter or digit.
    RealmText = "^[a-z0-9][a-z0-9.-]{0,62}$", "synergycall";

    /// The name of a section in the PBX's own pjsip.conf: 1 to 63 of `a-z`, `A-Z`, `0-9`, `-` and `_`,
    /// beginning with a letter or digit.
    SectionText = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", "transport-udp";

    /// The digest of a bundle.
    DigestText = "^[0-9A-Fa-f]{64}$",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// Six digits of an authenticator app, or a recovery code. Blanks do not count, nor do hyphens and
    /// capitals in a recovery code.
    CodeText = "^(?: *(?:[0-9] *){6}|[ -]*(?:[A-Za-z2-7][ -]*){16})$", "123456";

    /// What a refresh token looks like.
    RefreshTokenText = "^pbxr_[A-Za-z0-9_-]{43}$", "pbxr_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr";

    /// What the token of a password reset looks like. Blanks around it do not count.
    ResetTokenText = concat!("^", white!(), "pbxp_[A-Za-z0-9_-]{43}", white!(), "$"),
        "pbxp_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr";
}

/// A list of permissions, none twice.
pub(super) fn scopes() -> Schema {
    let names = Permission::ALL.iter().map(|permission| permission.name());
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names));
    let list = ArrayBuilder::new()
        .items(name)
        .min_items(Some(1))
        .unique_items(true)
        .description(Some(
            "Permissions that it may use, each one that your role holds. What it may do is what you \
             may, as far as they go.",
        ))
        .examples([json!(["users.read", "users.write"])]);
    list.build().into()
}

/// Null, and nothing else.
pub(super) fn end_of_overlap() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Null)
        .description(Some(
            "Only null: the password before this one works no longer after the next apply.",
        ))
        .build()
}
