//! One request and its answer.

use std::time::Duration;

use api_server::causes::causes;
use reqwest::Response;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use uuid::Uuid;

use super::Api;
use super::reply::{Reply, broken, refused, whole};
use crate::failure::{Failure, Refusal, Unknown};
use crate::operations::{Method, Operation};

/// How long to wait before something is sent again whose answer was lost.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Under which a request is carried out once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Under whose name it is done, where nobody signs in.
const ADMIN_USER: HeaderName = HeaderName::from_static("x-admin-user");

/// A request that is being put together.
pub(crate) struct Call<'a> {
    api: &'a Api,
    operation: &'static Operation,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    /// Whether something may have been done by it that must not be done twice.
    changes: bool,
    /// Whether its command takes the key by which it can be asked about again.
    keyed: bool,
    /// What cannot be asked, because the table of operations does not have it.
    fault: Option<String>,
}

/// What came of sending it once.
enum Heard<T> {
    Answer(T),
    Refusal(Box<Refusal>),
    /// It did not get to anybody.
    Nobody(Failure),
    /// It may have got there, and no whole answer came back.
    Lost(Failure),
}

impl Api {
    /// A request.
    pub(crate) fn call(&self, operation: &'static Operation) -> Call<'_> {
        let mut headers = HeaderMap::new();
        if operation.once {
            let key = HeaderValue::try_from(Uuid::now_v7().to_string());
            headers.extend(key.map(|key| (IDEMPOTENCY_KEY, key)));
        }
        Call {
            api: self,
            operation,
            path: Vec::new(),
            query: Vec::new(),
            headers,
            body: None,
            changes: operation.once,
            keyed: false,
            fault: None,
        }
    }
}

impl Call<'_> {
    /// The next parameter of the path.
    pub(crate) fn at(mut self, value: &str) -> Self {
        self.path.push(value.to_owned());
        self
    }

    /// A parameter of the query.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        if !self.operation.query.contains(&name) {
            self.fault = Some(format!("{} takes no {name}", self.operation.id));
        }
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A parameter of the query that may be left out.
    pub(crate) fn query_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Sets the body: an object whose fields the operation has.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        for name in body
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys())
        {
            if !self.operation.fields.contains(&name.as_str()) {
                self.fault = Some(format!("{} has no field {name}", self.operation.id));
            }
        }
        let media_type = match self.operation.method {
            Method::Patch => "application/merge-patch+json",
            Method::Get | Method::Post | Method::Delete => "application/json",
        };
        self.body = Some(body.to_string().into_bytes());
        self.header(CONTENT_TYPE, media_type)
    }

    /// Sets a body of this type.
    pub(crate) fn body(mut self, media_type: &str, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self.header(CONTENT_TYPE, media_type)
    }

    /// What it is known by when it is sent again, in place of a key of its own. Only for commands by
    /// which it can be sent again to the letter, under a key that they take.
    pub(crate) fn key(mut self, key: Option<&str>) -> Self {
        self.keyed = true;
        match key {
            Some(key) => self.header(IDEMPOTENCY_KEY, key),
            None => self,
        }
    }

    /// Only tells what would be done: it may be sent as often as one likes.
    pub(crate) fn preview(mut self) -> Self {
        self.changes = false;
        self.query("preview", "true")
    }

    /// Only in this state.
    pub(crate) fn if_match(self, etag: Option<&str>) -> Self {
        match etag {
            Some(etag) => self.header(IF_MATCH, etag),
            None => self,
        }
    }

    /// Sets a header.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::try_from(value) {
            Ok(value) => drop(self.headers.insert(name, value)),
            Err(_) => self.fault = Some(format!("{name} cannot be {value:?}")),
        }
        self
    }

    /// Sends it and reads the whole answer, as whoever has signed in. One that breaks off is as good
    /// as none.
    pub(crate) async fn send(self) -> Result<Reply, Failure> {
        self.exchange(whole).await
    }

    /// Likewise, and leaves the body of the answer to be read as it comes.
    pub(crate) async fn open(self) -> Result<Response, Failure> {
        self.exchange(async |response| Ok(response)).await
    }

    /// Sends it with this token and reads the whole answer.
    pub(crate) async fn send_as(self, token: Option<&SecretString>) -> Result<Reply, Failure> {
        self.sent(token, &whole, &mut false).await
    }

    /// Sends it. When no answer tells what became of it, the failure is that, with the key.
    async fn exchange<T>(
        &self,
        read: impl AsyncFn(Response) -> reqwest::Result<T>,
    ) -> Result<T, Failure> {
        if self.operation.of_tenant {
            self.api.find_own_tenant().await?;
        }
        let mut lost = false;
        let answered = if self.changes && self.operation.bulk {
            // It takes minutes, and whoever stops waiting must know how to ask what became of it.
            tokio::select! {
                answered = self.by_whoever(&read, &mut lost) => answered,
                () = interrupted() => {
                    lost = true;
                    Err(Failure::other("interrupted"))
                }
            }
        } else {
            self.by_whoever(&read, &mut lost).await
        };
        answered.map_err(|failure| {
            if !self.changes || failure.nothing_happened(lost) {
                return failure;
            }
            let key = self.headers.get(IDEMPOTENCY_KEY);
            let key = key.filter(|_| self.keyed).and_then(|key| key.to_str().ok());
            Failure::Unknown(Box::new(Unknown {
                why: failure,
                again: key.map(|key| format!("--idempotency-key {key}")),
            }))
        })
    }

    /// Sends it as whoever has signed in. The session is renewed when it is time, or when the portal
    /// does not know the access token any more. `lost`: an answer was lost.
    async fn by_whoever<T>(
        &self,
        read: &impl AsyncFn(Response) -> reqwest::Result<T>,
        lost: &mut bool,
    ) -> Result<T, Failure> {
        let token = self.api.bearer(None).await?;
        let refusal = match self.sent(token.as_ref(), read, lost).await {
            Err(Failure::Refused(refusal)) if refusal.code() == "unauthenticated" => refusal,
            other => return other,
        };
        let next = match &token {
            Some(token) => self.api.bearer(Some(token)).await?,
            None => None,
        };
        let same = next.as_ref().map(SecretString::expose_secret)
            == token.as_ref().map(SecretString::expose_secret);
        if same {
            return Err(Failure::Refused(refusal));
        }
        self.sent(next.as_ref(), read, lost).await
    }

    /// Sends it with this token, and once more when its answer is lost and it may be.
    async fn sent<T>(
        &self,
        token: Option<&SecretString>,
        read: &impl AsyncFn(Response) -> reqwest::Result<T>,
        lost: &mut bool,
    ) -> Result<T, Failure> {
        if let Some(fault) = &self.fault {
            return Err(Failure::Other(fault.clone()));
        }
        let again = self.operation.once || self.operation.method == Method::Get;
        let mut heard = self.attempt(token, read).await?;
        if matches!(heard, Heard::Lost(_)) {
            *lost = true;
            if again {
                tokio::time::sleep(RETRY_PAUSE).await;
                heard = self.attempt(token, read).await?;
            }
        }
        match heard {
            Heard::Answer(answer) => Ok(answer),
            Heard::Refusal(refusal) => Err(Failure::Refused(refusal)),
            Heard::Lost(failure) | Heard::Nobody(failure) => Err(failure),
        }
    }

    /// Sends it this one time.
    async fn attempt<T>(
        &self,
        token: Option<&SecretString>,
        read: &impl AsyncFn(Response) -> reqwest::Result<T>,
    ) -> Result<Heard<T>, Failure> {
        let response = match self.request(token)?.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Ok(Heard::Nobody(self.unreachable(error)));
            }
            Err(error) => return Ok(Heard::Lost(self.unreachable(error))),
        };
        let heard = if response.status().is_success() {
            read(response).await.map(Heard::Answer)
        } else {
            refused(response).await.map(Heard::Refusal)
        };
        Ok(heard.unwrap_or_else(|error| Heard::Lost(broken(error))))
    }

    fn request(&self, token: Option<&SecretString>) -> Result<reqwest::RequestBuilder, Failure> {
        let method = match self.operation.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        };
        let http = self.api.client(self.operation)?;
        let mut request = http
            .request(method, self.url()?)
            .headers(self.headers.clone());
        if let Some(token) = token {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
            let mut bearer =
                bearer.map_err(|_| Failure::Usage("PORTAL_TOKEN: that is no token".to_owned()))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        if let Some(name) = &self.api.admin_user {
            request = request.header(ADMIN_USER, name.clone());
        }
        Ok(match &self.body {
            Some(body) => request.body(body.clone()),
            None => request,
        })
    }

    fn url(&self) -> Result<reqwest::Url, Failure> {
        let mut url = self.api.base.clone();
        let mut values = self.path.iter();
        {
            let mut path = url
                .path_segments_mut()
                .map_err(|()| Failure::Usage("--url: has no path".to_owned()))?;
            path.pop_if_empty();
            if let Some(tenant) = self.api.meant().filter(|_| self.operation.of_tenant) {
                path.extend(["tenants", named(tenant)?]);
            }
            for segment in self.operation.path.split('/').skip(1) {
                if segment.starts_with('{') {
                    path.push(named(values.next().map_or("", String::as_str))?);
                } else {
                    path.push(segment);
                }
            }
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let base = self.api.base.clone();
        // Its address may hold what was searched for.
        let said = causes(&error.without_url());
        let advice = if said.contains("UnknownIssuer") || said.contains("certificate") {
            "\n  Is it the right portal? A certificate that is not of a public authority needs --ca."
        } else {
            ""
        };
        Failure::Unreachable(format!("cannot reach {base}: {said}{advice}"))
    }
}

/// Comes with Ctrl-C, and never where that cannot be heard.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What names something in a path. An empty one or dots would mean another path.
fn named(value: &str) -> Result<&str, Failure> {
    if value.is_empty() || value == "." || value == ".." {
        Err(Failure::NotFound(format!(
            "there is nothing named {value:?}"
        )))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_another_path_names_nothing() {
        for bad in ["", ".", ".."] {
            assert!(matches!(named(bad), Err(Failure::NotFound(_))), "{bad:?}");
        }
        assert_eq!(named("a/b?c").unwrap(), "a/b?c");
    }
}
