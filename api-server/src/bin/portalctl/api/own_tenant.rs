//! The tenant that is meant where none is named.

use std::pin::Pin;

use api_server::http::bodies::AccountBody;
use secrecy::SecretString;

use super::Api;
use super::credential::Credential;
use crate::failure::Failure;
use crate::operations::GET_ACCOUNT;
use crate::session::Kept;

impl Api {
    /// The tenant whose users and devices are meant: the one that was named, or else that of whoever
    /// asks and is confined to one. `None` is the default tenant.
    pub(super) fn meant(&self) -> Option<&str> {
        let own = || self.own_tenant.get().and_then(Option::as_deref);
        self.tenant().or_else(own)
    }

    /// Finds out what [`Api::meant`] is, once. It asks the portal where neither an option nor the
    /// session says it; who must not read their own account, as most API tokens, goes on without.
    ///
    /// # Errors
    /// The portal cannot be asked.
    pub(super) async fn find_own_tenant(&self) -> Result<(), Failure> {
        if self.tenant().is_none() {
            self.own_tenant.get_or_try_init(|| self.asked()).await?;
        }
        Ok(())
    }

    /// Boxed, because asking is a request, and a request may have to ask.
    fn asked(&self) -> Pin<Box<dyn Future<Output = Result<Option<String>, Failure>> + '_>> {
        Box::pin(async {
            let kept = match &self.credential {
                Credential::None => return Ok(None),
                Credential::Token(_) => None,
                Credential::Session { now, .. } => now.borrow().account,
            };
            let kept = match kept {
                Some(kept) => kept,
                None => match self.call(&GET_ACCOUNT).at("me").send().await {
                    Err(Failure::Refused(refusal)) if refusal.status == 403 => return Ok(None),
                    reply => account(&reply?)?,
                },
            };
            Ok(kept.tenant_id.map(|id| id.to_string()))
        })
    }

    /// What is to be kept of the account of this access token.
    pub(crate) async fn account(&self, token: &SecretString) -> Result<Kept, Failure> {
        let call = self.call(&GET_ACCOUNT).at("me");
        account(&call.send_as(Some(token)).await?)
    }
}

fn account(reply: &super::Reply) -> Result<Kept, Failure> {
    let AccountBody { tenant_id, .. } = reply.read("an account")?;
    Ok(Kept { tenant_id })
}
