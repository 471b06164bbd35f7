//! People who may sign in, made as an administrator makes them.

use anyhow::Context as _;
use api_server::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tests::portal::Client;
use time::Duration;
use time::format_description::well_known::Rfc3339;

/// Hard enough to guess for the portal.
pub(crate) const PASSWORD: &str = "seven wooden boats off the north pier";

/// Somebody who is signed in.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) account: String,
    pub(crate) login: String,
    pub(crate) client: Client,
}

impl Person {
    /// Creates an account and signs in. `seat` is the rest of the body of `POST /accounts`: role and
    /// tenant, or whose it is.
    pub(crate) async fn create(admin: &Client, login: &str, seat: &Value) -> anyhow::Result<Self> {
        let mut body = seat.clone();
        body["login"] = json!(login);
        body["name"] = json!(login);
        let made = admin.post("/accounts", &body).await?.expect(201)?.json()?;
        let account = text(&made, "id")?;
        let reset = format!("/accounts/{account}/reset");
        let issued = admin.post_nothing(&reset).await?.expect(200)?.json()?;
        let password = json!({ "token": issued["token"], "password": PASSWORD });
        let anybody = admin.anonymous();
        let reply = anybody.post("/password-resets", &password).await?;
        reply.expect(204)?;
        let person = Self {
            account,
            login: login.to_owned(),
            client: admin.clone(),
        };
        let client = person.again().await?;
        Ok(Self { client, ..person })
    }

    /// Signs in once more. Who does that often from one address has to wait.
    pub(crate) async fn again(&self) -> anyhow::Result<Client> {
        let body = json!({ "login": self.login, "password": PASSWORD });
        let anybody = self.client.anonymous();
        loop {
            let reply = anybody.post("/sessions", &body).await?;
            if reply.status != 429 {
                let token = text(&reply.expect(201)?.json()?, "access_token")?;
                return Ok(self.client.with_bearer(&token));
            }
            let seconds = reply.header("retry-after").parse()?;
            tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        }
    }

    /// Signs in as a browser does: the cookie that it keeps.
    pub(crate) async fn cookie(&self) -> anyhow::Result<String> {
        let body = json!({ "login": self.login, "password": PASSWORD, "kind": "cookie" });
        let reply = self.client.anonymous().post("/sessions", &body).await?;
        let reply = reply.expect(201)?;
        let cookie = reply.header("set-cookie").split(';').next();
        Ok(cookie.context("no cookie")?.to_owned())
    }

    /// Makes an API token.
    pub(crate) async fn token(&self, name: &str, scopes: &[&str]) -> anyhow::Result<Token> {
        let body = json!({ "name": name, "scopes": scopes, "expires_at": tomorrow() });
        let made = self.client.post("/api-tokens", &body).await?;
        let made = made.expect(201)?.json()?;
        let client = self.client.with_bearer(&text(&made, "token")?);
        let id = text(&made, "id")?;
        Ok(Token { id, client })
    }
}

/// An API token.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) client: Client,
}

/// An end of a token.
pub(crate) fn tomorrow() -> String {
    let tomorrow = SystemClock.now() + Duration::days(1);
    tomorrow.format(&Rfc3339).unwrap_or_default()
}

/// A field that is a text.
pub(crate) fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let text = body[field].as_str().map(str::to_owned);
    text.with_context(|| format!("no {field}: {body}"))
}
