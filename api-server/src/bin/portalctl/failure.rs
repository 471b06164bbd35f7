//! Why a command failed, in words and as an exit status.

use api_server::http::bodies::Problem;
use serde_json::{Map, Value, json};

use crate::output::{Output, clean, one_line};
use crate::words;

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
    /// No answer tells whether it was done.
    Unknown(Box<Unknown>),
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

/// What may have been done.
#[derive(Debug)]
pub(crate) struct Unknown {
    /// What was heard instead of an answer.
    pub(crate) why: Failure,
    /// With what in addition the same command tells whether it was done; when absent, somebody has to
    /// look.
    pub(crate) again: Option<String>,
}

impl Refusal {
    /// The kind of problem for programs.
    pub(crate) fn code(&self) -> &str {
        self.problem.as_ref().map_or("", |problem| &problem.code)
    }

    fn brief(&self) -> String {
        match &self.problem {
            Some(problem) => format!("{} ({})", problem.title, problem.code),
            None => format!("the portal answered {}", self.status),
        }
    }

    /// Whether it is certain what became of what was asked. By one answer it mostly is: not when the
    /// portal ran out of time, broke down, or still carries it out. When one before it was `lost`, only
    /// what follows from the request itself, or is found out under its key, tells of both: somebody whose
    /// session has ended meanwhile hears nothing of what was done before that.
    fn settles(&self, lost: bool) -> bool {
        let told = |problem: &Problem| problem.apply.is_some() || problem.applies.is_some();
        if self.problem.as_ref().is_some_and(told) {
            return true;
        }
        if lost && self.problem.is_none() {
            // Something in between said it, and that one knows nothing of the first.
            return false;
        }
        match (self.status, self.code()) {
            (_, "idempotency_key_in_use") | (408, _) => false,
            (400, "body_incomplete") => !lost,
            (400 | 405 | 409 | 412..=415 | 422 | 428 | 431, _) => true,
            (500.., code) => code == "overloaded" && !lost,
            _ => !lost,
        }
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

    /// Whether it is certain that nothing was done, or told what was; `lost`: an answer was lost.
    pub(crate) fn nothing_happened(&self, lost: bool) -> bool {
        match self {
            Self::Refused(refusal) => refusal.settles(lost),
            Self::Unknown(_) => false,
            _ => !lost,
        }
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
            Self::Unknown(_) => 8,
            Self::Refused(refusal) => of_refusal(refusal),
        }
    }

    /// In a few words.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.brief(),
            Self::Unknown(unknown) => unknown.why.brief(),
            Self::Declined => "Nothing was done.".to_owned(),
            Self::Other(said)
            | Self::Usage(said)
            | Self::NotSignedIn(said)
            | Self::NotFound(said)
            | Self::Input(said)
            | Self::NotInForce(said)
            | Self::Unreachable(said) => said.clone(),
        }
    }

    /// Says it on standard error: with `--json` as one problem document, that of the portal as it came.
    pub(crate) fn tell(&self, out: &Output) {
        match self {
            Self::Refused(refusal) if out.json() && refusal.problem.is_some() => {
                out.note(&String::from_utf8_lossy(&refusal.body));
            }
            _ if out.json() => out.note(&Value::Object(self.document()).to_string()),
            Self::Refused(refusal) => tell_refusal(refusal, out),
            Self::Unknown(unknown) => tell_unknown(unknown, out),
            Self::Declined => out.note(&self.brief()),
            Self::NotSignedIn(said) => {
                error(out, said);
                out.note("  Sign in with `portalctl login`, or set PORTAL_TOKEN.");
            }
            other => error(out, &other.brief()),
        }
    }

    /// It as a problem document. Without an answer of the portal there is neither an HTTP status nor
    /// a request in it.
    fn document(&self) -> Map<String, Value> {
        let mut document = match self {
            Self::Unknown(unknown) => unknown.why.document(),
            Self::Refused(refusal) => serde_json::from_slice(&refusal.body).unwrap_or_default(),
            _ => Map::new(),
        };
        if let Self::Unknown(unknown) = self {
            document.insert("may_have_been_done".to_owned(), true.into());
            document.insert("again_with".to_owned(), json!(unknown.again));
        } else if !document.contains_key("code") {
            document = self.own_document();
        }
        document
    }

    /// What the portal has no document about.
    fn own_document(&self) -> Map<String, Value> {
        let (code, title) = match self {
            Self::Other(_) => ("failed", "Failed"),
            Self::Usage(_) => ("wrong_usage", "Wrong usage"),
            Self::NotSignedIn(_) => ("not_signed_in", "Not signed in"),
            Self::NotFound(_) => ("not_found", "Not found"),
            Self::Refused(_) | Self::Input(_) => ("refused", "Refused"),
            Self::NotInForce(_) => ("not_in_force", "Not in force"),
            Self::Unreachable(_) => ("unreachable", "Portal unreachable"),
            Self::Unknown(_) => ("unknown", "Not known"),
            Self::Declined => ("declined", "Declined"),
        };
        let mut document = Map::new();
        let mut set = |name: &str, value: Value| document.insert(name.to_owned(), value);
        set("type", format!("urn:portalctl:problem:{code}").into());
        set("title", title.into());
        set("code", code.into());
        let mut detail = self.brief();
        if let Self::Refused(refusal) = self {
            set("status", refusal.status.into());
            if let Some(advice) = words::advice(refusal) {
                detail = format!("{detail}. {advice}");
            }
        }
        set("detail", detail.into());
        document
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
    error(out, &refusal.brief());
    let advice = words::advice(refusal).map(|advice| format!("  {advice}"));
    let Some(problem) = &refusal.problem else {
        if let Some(advice) = advice {
            out.note(&advice);
        }
        return;
    };
    out.note(&format!("  {}", clean(&words::detail(problem))));
    for field in problem.errors.iter().flatten() {
        let (name, message) = words::field(&field.field, &field.message);
        let name = out.err_paint("1", &clean(&name));
        out.note(&format!("  {name}: {}", clean(&message)));
    }
    for told in problem.applies.iter().flatten() {
        if let Some(failure) = &told.failure {
            let message = words::of_portal(&failure.message);
            let said = format!("{}: {message} ({})", told.pbx, failure.code);
            out.note(&format!("  {}", one_line(&said)));
        }
    }
    if let Some(seconds) = &refusal.retry_after {
        out.note(&format!("  Try again in {} s.", clean(seconds)));
    }
    if let Some(advice) = advice {
        out.note(&advice);
    }
    out.note(&format!("  request id: {}", clean(&problem.request_id)));
}

fn tell_unknown(unknown: &Unknown, out: &Output) {
    unknown.why.tell(out);
    out.note(&match &unknown.again {
        Some(again) => format!(
            "  It may have been done. The same command with {} tells, for a day, and does it if it \
             was not.",
            clean(again)
        ),
        None => {
            "  It may have been done: look at what became of it before you do it again.".to_owned()
        }
    });
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

    fn problem(status: u16, code: &str) -> Failure {
        let problem = serde_json::json!({ "type": "t", "title": "T", "status": status, "detail": "d",
            "instance": "/", "code": code, "request_id": "r" });
        let body = problem.to_string().into_bytes();
        Failure::Refused(Box::new(Refusal {
            status,
            problem: serde_json::from_slice(&body).unwrap(),
            body,
            retry_after: None,
        }))
    }

    #[test]
    fn what_may_have_happened() {
        for (failure, by_one, with_one_lost) in [
            (refused(400), true, false),
            (problem(400, "body_incomplete"), true, false),
            (problem(400, "validation_failed"), true, true),
            (problem(409, "email_taken"), true, true),
            (problem(401, "unauthenticated"), true, false),
            (refused(401), true, false),
            (refused(403), true, false),
            (refused(404), true, false),
            (refused(429), true, false),
            (refused(408), false, false),
            (refused(503), false, false),
            (problem(503, "overloaded"), true, false),
            (problem(409, "idempotency_key_in_use"), false, false),
            (problem(422, "import_refused"), true, true),
            (Failure::Unreachable(String::new()), true, false),
            (Failure::NotSignedIn(String::new()), true, false),
        ] {
            assert_eq!(failure.nothing_happened(false), by_one, "{failure:?}");
            assert_eq!(failure.nothing_happened(true), with_one_lost, "{failure:?}");
        }
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
        let (why, again) = (refused(401), None);
        let unknown = Failure::Unknown(Box::new(Unknown { why, again }));
        assert_eq!(unknown.exit_code(), 8);
    }
}
