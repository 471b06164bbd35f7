//! `portalctl password` and `portalctl account set-password`: passwords that somebody types.

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use crate::Context;
use crate::ask;
use crate::failure::Failure;
use crate::operations::{CHANGE_PASSWORD, USE_PASSWORD_RESET};

/// How somebody changes their own.
#[derive(Args, Debug)]
#[command(
    after_help = "Your other sessions end. An API token cannot do this.\n\nExamples:\n  portalctl password"
)]
pub(crate) struct Change {
    /// Read the password that counts now and the new one from standard input, a line each
    #[arg(long)]
    password_stdin: bool,
}

/// How somebody who was given a token sets one.
#[derive(Args, Debug)]
#[command(
    after_help = "Nobody needs to be signed in. The token comes from `account reset-password` and is \
                  asked for, as the password is.\n\nExamples:\n  portalctl account set-password --url \
                  https://portal.example.com"
)]
pub(crate) struct Set {
    /// Read the token and the password from standard input, a line each
    #[arg(long)]
    password_stdin: bool,
}

/// Changes one's own password.
pub(crate) async fn change(context: &Context, change: &Change) -> Result<(), Failure> {
    let (current, new) = typed("Current password: ", change.password_stdin)?;
    let body = json!({
        "current_password": current.expose_secret(),
        "new_password": new.expose_secret(),
    });
    let call = context.api.call(&CHANGE_PASSWORD).at("me").json(&body);
    let reply = call.send().await?;
    if context.out.json() {
        context.out.reply(&reply.body);
    } else {
        let said = "The password is changed. Your other sessions have ended.";
        context.out.line(said);
    }
    Ok(())
}

/// Sets the password of the account that a token is for.
pub(crate) async fn set(context: &Context, set: &Set) -> Result<(), Failure> {
    let (token, password) = typed("Token: ", set.password_stdin)?;
    let body = json!({
        "token": token.expose_secret(),
        "password": password.expose_secret(),
    });
    // Whoever is signed in here may be somebody else.
    let call = context.api.call(&USE_PASSWORD_RESET).json(&body);
    call.send_as(None).await?;
    if !context.out.json() {
        let said = "The password is set: sign in with `portalctl login`.";
        context.out.line(said);
    }
    Ok(())
}

/// What is shown first, and the new password.
fn typed(first: &str, by_stdin: bool) -> Result<(SecretString, SecretString), Failure> {
    if by_stdin {
        let none = || Failure::Usage("standard input: there must be two lines".to_owned());
        let shown = ask::secret_line()?.ok_or_else(none)?;
        return Ok((shown, ask::secret_line()?.ok_or_else(none)?));
    }
    let otherwise = "use --password-stdin";
    let shown = ask::secret(first, otherwise)?;
    let new = ask::secret("New password: ", otherwise)?;
    let again = ask::secret("New password again: ", otherwise)?;
    if new.expose_secret() != again.expose_secret() {
        let said = "the two new passwords differ: nothing was done";
        return Err(Failure::Usage(said.to_owned()));
    }
    Ok((shown, new))
}
