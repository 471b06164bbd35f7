//! What comes back of a request.

use api_server::causes::causes;
use reqwest::Response;
use reqwest::header::{ETAG, HeaderName, LINK, RETRY_AFTER};
use serde::Deserialize;

use crate::failure::{Failure, Refusal};

/// A good answer.
pub(crate) struct Reply {
    /// The state of what it tells of.
    pub(crate) etag: Option<String>,
    /// The cursor of the next page.
    pub(crate) next: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as what the portal writes it from.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::unreadable(what, &error))
    }
}

/// Reads a good answer.
pub(super) async fn whole(response: Response) -> reqwest::Result<Reply> {
    let text = |name: HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let (etag, next) = (text(ETAG), text(LINK).and_then(|link| cursor(&link)));
    let body = response.bytes().await?.to_vec();
    Ok(Reply { etag, next, body })
}

/// An answer that broke off.
pub(crate) fn broken(error: reqwest::Error) -> Failure {
    let said = causes(&error.without_url());
    Failure::Unreachable(format!("the answer broke off: {said}"))
}

/// Reads an answer that is none.
pub(super) async fn refused(response: Response) -> reqwest::Result<Box<Refusal>> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok().map(str::to_owned));
    let body = response.bytes().await?.to_vec();
    Ok(Box::new(Refusal {
        status,
        problem: serde_json::from_slice(&body).ok(),
        body,
        retry_after,
    }))
}

/// The cursor in `</users?cursor=…>; rel="next"`.
fn cursor(link: &str) -> Option<String> {
    let link = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = link.split_once('<')?.1.split_once('>')?.0;
    let base = reqwest::Url::parse("https://portal.invalid/").ok()?;
    let url = base.join(address).ok()?;
    let cursor = url.query_pairs().find(|(name, _)| name == "cursor")?;
    Some(cursor.1.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_stands_in_the_link() {
        let link = "</users?limit=1&sort=-name&cursor=WyItbmFtZSJd%3D>; rel=\"next\"";
        assert_eq!(cursor(link).as_deref(), Some("WyItbmFtZSJd="));
        assert_eq!(cursor("</users>; rel=\"prev\""), None);
        assert_eq!(cursor("nonsense"), None);
    }
}
