//! Who may sign in.

use super::typed_id;

typed_id! {
    /// Which account.
    AccountId
}

typed_id! {
    /// Which session.
    SessionId
}

typed_id! {
    /// Which API token.
    ApiTokenId
}
