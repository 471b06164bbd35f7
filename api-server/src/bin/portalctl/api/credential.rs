//! By what a request is known to be somebody's.

use std::cell::RefCell;

use api_server::http::bodies::OpenedBody;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::Api;
use crate::failure::Failure;
use crate::operations::REFRESH_SESSION;
use crate::session::{Session, Store};

/// By what a request is known to be somebody's.
pub(super) enum Credential {
    None,
    /// Of the environment: it is taken as it is.
    Token(SecretString),
    /// The session that is kept.
    Session {
        store: Store,
        now: Box<RefCell<Session>>,
        /// Requests of this process renew it one after another; the lock of the file is for other
        /// processes, and would make one wait for itself.
        renewing: Mutex<()>,
    },
}

impl Credential {
    pub(super) fn session(session: Session, store: Store) -> Self {
        Self::Session {
            store,
            now: Box::new(RefCell::new(session)),
            renewing: Mutex::new(()),
        }
    }

    pub(super) fn forget(&self) -> Result<(), Failure> {
        match self {
            Self::Session { store, .. } => {
                let _lock = store.lock()?;
                store.remove()
            }
            Self::None | Self::Token(_) => Ok(()),
        }
    }
}

impl Api {
    /// What a request carries; `refused` is what was carried and is not good any more.
    pub(super) async fn bearer(
        &self,
        refused: Option<&SecretString>,
    ) -> Result<Option<SecretString>, Failure> {
        let (store, now, renewing) = match &self.credential {
            Credential::None => return Ok(None),
            Credential::Token(token) => return Ok(Some(token.clone())),
            Credential::Session {
                store,
                now,
                renewing,
            } => (store, now, renewing),
        };
        let good = |session: &Session| {
            let refused =
                refused.is_some_and(|token| token.expose_secret() == session.access_token);
            session.is_fresh() && !refused
        };
        let _turn = renewing.lock().await;
        if good(&now.borrow()) {
            return Ok(Some(now.borrow().access_token.clone().into()));
        }
        // A refresh token is taken once: one that two processes present ends the session. Whoever
        // has the lock looks at what the one before it left.
        let _lock = store.lock()?;
        let gone = || Failure::NotSignedIn("the session was ended here".to_owned());
        let kept = store.read()?.ok_or_else(gone)?;
        if kept.url != now.borrow().url {
            return Err(Failure::NotSignedIn(
                "somebody signed in elsewhere".to_owned(),
            ));
        }
        let session = if good(&kept) {
            kept
        } else {
            self.renew(kept, store).await?
        };
        let token = session.access_token.clone().into();
        now.replace(session);
        Ok(Some(token))
    }

    async fn renew(&self, kept: Session, store: &Store) -> Result<Session, Failure> {
        let renewed = self.renewed(kept).await;
        if let Err(Failure::NotSignedIn(_)) = &renewed {
            store.remove()?;
        }
        let session = renewed?;
        store.write(&session)?;
        Ok(session)
    }

    /// What a session goes on as. Its refresh token is used up by that: whoever loses what is returned
    /// has lost the session.
    ///
    /// # Errors
    /// [`Failure::NotSignedIn`]: it has ended.
    pub(crate) async fn renewed(&self, kept: Session) -> Result<Session, Failure> {
        let body = serde_json::json!({ "refresh_token": kept.refresh_token });
        let sent = self.call(&REFRESH_SESSION).json(&body).send_as(None).await;
        let reply = match sent {
            Err(Failure::Refused(refusal)) if refusal.status == 401 => {
                return Err(Failure::NotSignedIn("the session has ended".to_owned()));
            }
            other => other?,
        };
        let opened: OpenedBody = reply.read("a session")?;
        let session = Session::of(opened, kept.url, kept.ca, kept.login)?;
        let account = kept.account;
        Ok(Session { account, ..session })
    }
}
