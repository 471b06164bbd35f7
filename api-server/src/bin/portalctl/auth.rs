//! Signing in and out.

use std::io::IsTerminal as _;
use std::time::Duration;

use api_server::http::bodies::{OpenedBody, SessionBody};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::Context;
use crate::api::{self, Api};
use crate::ask;
use crate::cli::Global;
use crate::failure::Failure;
use crate::operations::{END_SESSION, GET_ACCOUNT, GET_SESSION, SIGN_IN};
use crate::output::{Output, clean, time, yes_no};
use crate::resource;
use crate::session::{Session, Store};

/// How long the end of a session that is replaced may take.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How somebody signs in.
#[derive(Args, Debug)]
#[command(
    after_help = "The session is kept in $XDG_CONFIG_HOME/portalctl/session.json, for you alone. Where a \
                  second factor is set, its code is asked for; with --password-stdin it is the second \
                  line.\n\nExamples:\n  portalctl login --url https://portal.example.com ann\n  \
                  portalctl login --url https://127.0.0.1:8443 --ca https-ca.crt ann\n  \
                  pass portal | portalctl login --password-stdin ann"
)]
pub(crate) struct Login {
    /// Whose account; asked for when absent
    login: Option<String>,
    /// Read the password from standard input, one line
    #[arg(long)]
    password_stdin: bool,
}

pub(crate) async fn login(global: &Global, login: &Login, out: &Output) -> Result<(), Failure> {
    let store = Store::find()?;
    // Where it cannot be kept, nobody types a password in vain.
    drop(store.lock()?);
    // A session that cannot be used is what somebody signs in to replace.
    let before = store.read().ok().flatten();
    let url = match (&global.url, &before) {
        (Some(url), _) => url.clone(),
        (None, Some(before)) => before.url.clone(),
        (None, None) => {
            let said = "which portal? Say --url, as in --url https://portal.example.com";
            return Err(Failure::Usage(said.to_owned()));
        }
    };
    let url = api::base(&url)?;
    let before = before.filter(|before| before.url == url.as_str());
    let ca = match &global.ca {
        Some(file) => Some(api::read_ca(file)?),
        None => before.and_then(|before| before.ca),
    };
    let api = Api::anonymous(url.clone(), ca.as_deref())?;
    let name = match &login.login {
        Some(name) => name.clone(),
        None if std::io::stdin().is_terminal() => ask::prompt("Login: ")?,
        None => return Err(Failure::Usage("whose account? Name the login".to_owned())),
    };
    let opened = opened(&api, &name, login.password_stdin).await?;
    let (id, until) = (opened.session.id, time(opened.session.expires_at));
    let mut session = Session::of(opened, url.into(), ca, name.clone())?;
    // When it cannot be asked now, each command that needs it asks.
    let token = session.access_token.as_str().into();
    session.account = api.account(&token).await.ok();
    let replaced = {
        let _lock = store.lock()?;
        let replaced = store.replaced();
        store.write(&session)?;
        replaced
    };
    if out.json() {
        out.line(&json!({ "session_id": id, "url": session.url, "login": name }).to_string());
    } else {
        let url = &session.url;
        out.line(&format!(
            "Signed in at {url} as {}, until {until} at most.",
            clean(&name)
        ));
    }
    if let Some(replaced) = replaced {
        end_replaced(replaced, out).await;
    }
    Ok(())
}

/// Ends a session that nobody can use here any more. One that cannot be ended is told of, and the new
/// one is there all the same.
async fn end_replaced(session: Session, out: &Output) {
    let (login, url) = (clean(&session.login), clean(&session.url));
    let why = match timeout(END_DEADLINE, end(session)).await {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure.brief(),
        Err(_) => "the portal does not answer".to_owned(),
    };
    out.note(&format!(
        "The session before, of {login} at {url}, could not be ended: {}\n  \
         It ends by itself when nobody uses it.",
        clean(&why)
    ));
}

async fn end(session: Session) -> Result<(), Failure> {
    let api = Api::anonymous(api::base(&session.url)?, session.ca.as_deref())?;
    let by = async |token: &str| {
        let call = api.call(&END_SESSION).at("current");
        call.send_as(Some(&token.into())).await
    };
    match by(&session.access_token).await {
        // Too old, unless the session has ended.
        Err(Failure::Refused(refusal)) if refusal.status == 401 => {}
        other => return other.map(drop),
    }
    match api.renewed(session).await {
        Ok(session) => by(&session.access_token).await.map(drop),
        Err(Failure::NotSignedIn(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

async fn opened(api: &Api, login: &str, by_stdin: bool) -> Result<OpenedBody, Failure> {
    let otherwise = "use --password-stdin";
    let password = if by_stdin {
        let none = || Failure::Usage("standard input: there is no password".to_owned());
        ask::secret_line()?.ok_or_else(none)?
    } else {
        ask::secret("Password: ", otherwise)?
    };
    match sign_in(api, login, &password, None).await {
        Err(Failure::Refused(refusal)) if refusal.code() == "second_factor_required" => {
            let code = if by_stdin {
                ask::secret_line()?.ok_or(Failure::Refused(refusal))?
            } else {
                ask::secret("Code of the second factor: ", otherwise)?
            };
            sign_in(api, login, &password, Some(&code)).await
        }
        other => other,
    }
}

async fn sign_in(
    api: &Api,
    login: &str,
    password: &SecretString,
    code: Option<&SecretString>,
) -> Result<OpenedBody, Failure> {
    let mut body = json!({
        "login": login,
        "password": password.expose_secret(),
        "kind": "bearer",
    });
    if let Some(code) = code {
        body["code"] = json!(code.expose_secret());
    }
    api.call(&SIGN_IN)
        .json(&body)
        .send()
        .await?
        .read("a session")
}

pub(crate) async fn logout(context: &Context) -> Result<(), Failure> {
    match context.api.call(&END_SESSION).at("current").send().await {
        // Or it has ended already.
        Ok(_) | Err(Failure::NotSignedIn(_)) => {}
        Err(Failure::Refused(refusal)) if matches!(refusal.status, 401 | 404) => {}
        Err(other) => return Err(other),
    }
    context.api.forget()?;
    if !context.out.json() {
        context.out.line("Signed out.");
    }
    Ok(())
}

pub(crate) async fn whoami(context: &Context) -> Result<(), Failure> {
    let account = context.api.call(&GET_ACCOUNT).at("me").send().await?;
    // An API token has none.
    let session = context.api.call(&GET_SESSION).at("current").send().await;
    if context.out.json() {
        let session = session.ok().and_then(|reply| reply.read("a session").ok());
        let mut both: Value = account.read("an account")?;
        both["session"] = session.unwrap_or(Value::Null);
        context.out.line(&both.to_string());
        return Ok(());
    }
    resource::show(context, &account, crate::account::details)?;
    if let Ok(reply) = session {
        let session: SessionBody = reply.read("a session")?;
        context.out.details(vec![
            ("session", session.id.to_string()),
            ("from", session.source_address),
            ("second factor shown", yes_no(session.second_factor)),
            ("ends unused", time(session.idle_until)),
            ("ends", time(session.expires_at)),
        ]);
    }
    Ok(())
}
