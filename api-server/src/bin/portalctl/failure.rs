//! Why a command failed, in words and as an exit status.

use api_server::http::bodies::Problem;

use crate::output::{Output, clean, one_line};

/// Why a command failed. The exit statuses stand in the help.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something about this machine or this program.
    Other(String),
    /// What was asked for cannot be meant.
    Usage(String),
    /// Nobody is signed in.
    NotSignedIn(String),
    /// There is no such thing, as a list says.
    NotFound(String),
    /// The portal refused it or failed.
    Refused(Box<Refusal>),
    /// What was given is refused.
    Input(String),
    /// It is not in force; what there is to say was said.
    NotInForce(String),
    /// There was no answer.
    Unreachable(String),
    /// Somebody was asked and said no.
    Declined,
}

/// An answer that is none.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What it says, if it says it as the portal does.
    pub(crate) problem: Option<Problem>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
    /// When to try again, in seconds.
    pub(crate) retry_after: Option<String>,
}

impl Refusal {
    /// The kind of problem for programs.
    pub(crate) fn code(&self) -> &str {
        self.problem.as_ref().map_or("", |problem| &problem.code)
    }
}

impl Failure {
    pub(crate) fn other(said: impl Into<String>) -> Self {
        Self::Other(said.into())
    }

    /// The answer was read and is not what this version knows.
    pub(crate) fn unreadable(what: &str, error: &serde_json::Error) -> Self {
        Self::Other(format!(
            "the portal answered {what} otherwise than this portalctl knows ({error}): \
             use the portalctl of the portal's version, or --json"
        ))
    }

    /// Whether it is certain that nothing was done. It is not when the portal ran out of time, or
    /// when it still carries out what was sent before: the answer to that was lost.
    pub(crate) fn nothing_happened(&self) -> bool {
        matches!(self, Self::Refused(refusal)
            if refusal.status < 500
                && refusal.status != 408
                && refusal.code() != "idempotency_key_in_use")
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) | Self::Declined => 1,
            Self::Usage(_) => 2,
            Self::NotSignedIn(_) => 3,
            Self::NotFound(_) => 4,
            Self::Input(_) => 5,
            Self::NotInForce(_) => 6,
            Self::Unreachable(_) => 7,
            Self::Refused(refusal) => of_refusal(refusal),
        }
    }

    /// Says it on standard error.
    pub(crate) fn tell(&self, out: &Output) {
        match self {
            Self::Refused(refusal) if out.json() && refusal.problem.is_some() => {
                out.note(&String::from_utf8_lossy(&refusal.body));
            }
            Self::Refused(refusal) => tell_refusal(refusal, out),
            Self::Declined => out.note("Nothing was done."),
            Self::NotSignedIn(said) => {
                error(out, said);
                out.note("  Sign in with `portalctl login`, or set PORTAL_TOKEN.");
            }
            Self::Other(said)
            | Self::Usage(said)
            | Self::NotFound(said)
            | Self::Input(said)
            | Self::NotInForce(said)
            | Self::Unreachable(said) => error(out, said),
        }
    }
}

fn of_refusal(refusal: &Refusal) -> u8 {
    let apply = refusal.problem.as_ref();
    if apply.is_some_and(|problem| problem.apply.is_some()) {
        return 6;
    }
    match refusal.status {
        401 | 403 => 3,
        404 | 410 => 4,
        408 | 429 | 500.. => 7,
        400..500 => 5,
        _ => 1,
    }
}

fn error(out: &Output, said: &str) {
    out.note(&format!(
        "{} {}",
        out.err_paint("1;31", "error:"),
        clean(said)
    ));
}

fn tell_refusal(refusal: &Refusal, out: &Output) {
    let Some(problem) = &refusal.problem else {
        error(out, &format!("the portal answered {}", refusal.status));
        return;
    };
    error(out, &format!("{} ({})", problem.title, problem.code));
    out.note(&format!("  {}", clean(&problem.detail)));
    for field in problem.errors.iter().flatten() {
        let name = out.err_paint("1", &clean(&field.field));
        out.note(&format!("  {name}: {}", clean(&field.message)));
    }
    for told in problem.applies.iter().flatten() {
        if let Some(failure) = &told.failure {
            let said = format!("{}: {} ({})", told.pbx, failure.message, failure.code);
            out.note(&format!("  {}", one_line(&said)));
        }
    }
    if let Some(seconds) = &refusal.retry_after {
        out.note(&format!("  Try again in {} s.", clean(seconds)));
    }
    if let Some(advice) = advice(refusal) {
        out.note(&format!("  {advice}"));
    }
    out.note(&format!("  request id: {}", clean(&problem.request_id)));
}

/// What to do here about what was refused there.
fn advice(refusal: &Refusal) -> Option<&'static str> {
    match (refusal.status, refusal.code()) {
        (401, "unauthenticated") => Some("Sign in with `portalctl login`, or set PORTAL_TOKEN."),
        (403, "session_needed") => Some("An API token cannot do this: use `portalctl login`."),
        (409, "idempotency_key_in_use") => {
            Some("It may still be carried out: look at what became of it before you do it again.")
        }
        (412, "precondition_failed") => {
            Some("Somebody changed it meanwhile: look at it again, and try again.")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Failure {
        let (problem, body, retry_after) = (None, Vec::new(), None);
        Failure::Refused(Box::new(Refusal {
            status,
            problem,
            body,
            retry_after,
        }))
    }

    #[test]
    fn what_may_have_happened() {
        for (status, nothing) in [
            (422, true),
            (409, true),
            (401, true),
            (408, false),
            (503, false),
        ] {
            assert_eq!(refused(status).nothing_happened(), nothing, "{status}");
        }
        assert!(!Failure::Unreachable(String::new()).nothing_happened());
        let body = br#"{"type":"t","title":"T","status":409,"detail":"d","instance":"/",
            "code":"idempotency_key_in_use","request_id":"r"}"#;
        let problem: Problem = serde_json::from_slice(body).unwrap();
        let in_use = Failure::Refused(Box::new(Refusal {
            status: 409,
            problem: Some(problem),
            body: body.to_vec(),
            retry_after: None,
        }));
        assert!(!in_use.nothing_happened());
    }

    #[test]
    fn exit_statuses() {
        for (status, code) in [
            (400, 5),
            (401, 3),
            (403, 3),
            (404, 4),
            (409, 5),
            (412, 5),
            (413, 5),
            (422, 5),
            (428, 5),
            (429, 7),
            (500, 7),
            (502, 7),
            (503, 7),
            (302, 1),
        ] {
            assert_eq!(refused(status).exit_code(), code, "{status}");
        }
        assert_eq!(Failure::Declined.exit_code(), 1);
        assert_eq!(Failure::NotInForce(String::new()).exit_code(), 6);
    }
}
