//! An error with everything behind it, for the log.

use std::error::Error;

/// The text of an error and of each of its causes, from the outside in.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        // Transparent wrappers repeat what they wrap.
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_cause_once() {
        let inner = std::io::Error::other("disk");
        let error = shared_error(inner);
        assert_eq!(causes(&error), "outside: disk");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outside")]
    struct Outside(#[source] std::io::Error);

    fn shared_error(inner: std::io::Error) -> Outside {
        Outside(inner)
    }
}
