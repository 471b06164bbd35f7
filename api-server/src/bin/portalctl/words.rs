//! What the portal says to callers of its API, in the words of this program.

use api_server::http::bodies::Problem;

use crate::failure::Refusal;

/// Operations that messages name, each with the command that does the same; `{}` is an id.
const COMMANDS: [(&str, &str); 10] = [
    ("GET /apply/preview", "portalctl preview"),
    ("GET /apply/status", "portalctl status"),
    ("POST /apply", "portalctl apply"),
    ("GET /applies", "portalctl history"),
    ("GET /applies/{}", "portalctl history {}"),
    ("GET /applies/{}/events", "portalctl history {}"),
    ("GET /pbxes", "portalctl pbx list"),
    ("POST /sessions", "portalctl login"),
    ("POST /accounts/me/password", "portalctl password"),
    (
        "POST /accounts/{}/reset",
        "portalctl account reset-password",
    ),
];

/// How a table says its encoding to the portal.
const CHARSET: &str = "Content-Type: text/csv; charset=";

/// The option in place of that.
const ENCODING: &str = "--encoding";

/// Text of the portal in which operations are commands.
pub(crate) fn of_portal(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = next_operation(rest) {
        let (before, from) = rest.split_at(at);
        told.push_str(before);
        let (method, path) = from.split_once(' ').unwrap_or((from, ""));
        let end = path.find(|char: char| char.is_whitespace() || ",;:()`".contains(char));
        let path = path[..end.unwrap_or(path.len())].trim_end_matches('.');
        let (named, after) = from.split_at(method.len() + 1 + path.len());
        match command(method, path) {
            Some(command) if told.ends_with('`') => told.push_str(&command),
            Some(command) => told.extend(["`", &command, "`"]),
            None => told.push_str(named),
        }
        rest = after;
    }
    told.push_str(rest);
    told
}

fn next_operation(text: &str) -> Option<usize> {
    let all = ["GET /", "POST /"].into_iter();
    all.filter_map(|method| text.find(method)).min()
}

fn command(method: &str, path: &str) -> Option<String> {
    COMMANDS.iter().find_map(|(operation, command)| {
        let (of, wanted) = operation.split_once(' ')?;
        let (wanted, given) = (wanted.split('/'), path.split('/'));
        let mut id = "";
        let same = of == method
            && wanted.clone().count() == given.clone().count()
            && wanted.zip(given).all(|(wanted, given)| {
                if wanted == "{}" {
                    id = given;
                }
                wanted == "{}" || wanted == given
            });
        same.then(|| command.replace("{}", id))
    })
}

/// What happened and what to do: not what stands above already, and not how the API is told.
pub(crate) fn detail(problem: &Problem) -> String {
    match (problem.code.as_ref(), &problem.import) {
        ("import_refused", Some(import)) => {
            let refused = import.counts.refused;
            let all = u64::try_from(import.lines.len()).unwrap_or(u64::MAX);
            format!(
                "Nothing was done: {refused} of {} refused, as shown above. Mend what is refused, or do \
                 the others with --per-line.",
                lines(all)
            )
        }
        ("declaration_refused", _) => {
            "Nothing was done: the tenant cannot be made what the file says, \
                                       as shown above."
                .to_owned()
        }
        _ if problem
            .errors
            .iter()
            .flatten()
            .any(|error| error.field == "charset") =>
        {
            problem.detail.replace("charset", ENCODING)
        }
        _ => of_portal(&problem.detail),
    }
}

/// A field of a request by what sets it, with what is wrong with it.
pub(crate) fn field(name: &str, message: &str) -> (String, String) {
    let name = if name == "charset" { ENCODING } else { name };
    let message = message.replace(CHARSET, &format!("{ENCODING} "));
    (name.to_owned(), of_portal(&message))
}

/// `1 line`, `2 lines`
pub(crate) fn lines(count: u64) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} line{s}")
}

/// What to do here about what was refused there.
pub(crate) fn advice(refusal: &Refusal) -> Option<&'static str> {
    match (refusal.status, refusal.code()) {
        (401, "unauthenticated") => Some("Sign in with `portalctl login`, or set PORTAL_TOKEN."),
        (403, "session_needed") => Some("An API token cannot do this: use `portalctl login`."),
        (404, "tenant_not_found") => Some(
            "Without --tenant the default tenant is meant, unless your account is of one and may be \
             read: say --tenant, or set PORTAL_TENANT.",
        ),
        (412, "precondition_failed") => {
            Some("Somebody changed it meanwhile: look at it again, and try again.")
        }
        // Also by others than the portal that may stand before it.
        (400, "") if String::from_utf8_lossy(&refusal.body).contains("HTTPS") => {
            Some("Only HTTPS is spoken there: use https:// in --url.")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_commands() {
        for (said, meant) in [
            (
                "GET /apply/preview shows it all; the next POST /apply undoes it.",
                "`portalctl preview` shows it all; the next `portalctl apply` undoes it.",
            ),
            ("See `GET /apply/status`.", "See `portalctl status`."),
            (
                "GET /applies/01a1/events tells, then GET /applies/01a1.",
                "`portalctl history 01a1` tells, then `portalctl history 01a1`.",
            ),
            (
                "An administrator issues it: POST /accounts/{account}/reset.",
                "An administrator issues it: `portalctl account reset-password`.",
            ),
            ("POST /apply/verify, POST /", "POST /apply/verify, POST /"),
            ("Nothing.", "Nothing."),
        ] {
            assert_eq!(of_portal(said), meant);
        }
    }

    #[test]
    fn an_encoding_is_an_option() {
        let said = "or say its encoding, as in Content-Type: text/csv; charset=windows-1252";
        let (name, message) = field("charset", said);
        assert_eq!(name, "--encoding");
        assert_eq!(
            message,
            "or say its encoding, as in --encoding windows-1252"
        );
    }
}
