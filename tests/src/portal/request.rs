//! Requests to a portal, whose replies are checked against its document.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::Reply;
use crate::contract::Contract;
use crate::events::{EVENT_STREAM, EventStream};

/// A request that is being put together.
pub struct Request {
    pub(super) http: reqwest::RequestBuilder,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) contract: Option<Arc<Contract>>,
}

impl Request {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.http = self.http.header(name, value);
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.http = self.http.json(body);
        self
    }

    /// Sets a body and its content type.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.http = self.http.header(CONTENT_TYPE, content_type).body(body);
        self
    }

    /// Does not check the reply against the document: for paths that do not exist.
    #[must_use]
    pub fn undocumented(mut self) -> Self {
        self.contract = None;
        self
    }

    /// Sends it. Fails when there is no reply, or one that the document does not have.
    pub async fn send(self) -> anyhow::Result<Reply> {
        let what = format!("{} {}", self.method, self.path);
        let began = Instant::now();
        let response = self.http.send().await.with_context(|| what.clone())?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| what.clone())?;
        let reply = Reply {
            status,
            headers,
            body: body.to_vec(),
            took: began.elapsed(),
            what,
        };
        if let Some(contract) = self.contract {
            let (method, content_type) = (self.method.as_str(), reply.content_type());
            contract
                .check_reply(method, &self.path, status, content_type, &reply.body)
                .with_context(|| format!("the reply was {reply}"))?;
        }
        Ok(reply)
    }
}

impl Request {
    /// Sends it and takes the reply as server-sent events, which must begin with a 200.
    pub async fn stream(self) -> anyhow::Result<EventStream> {
        let what = format!("{} {}", self.method, self.path);
        let response = self.http.send().await.with_context(|| what.clone())?;
        let contract = self.contract.context("streams are documented")?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let status = response.status().as_u16();
        contract.check(self.method.as_str(), &self.path, status, content_type)?;
        let streams = content_type.is_some_and(|full| full.starts_with(EVENT_STREAM));
        if !streams {
            anyhow::bail!(
                "{what}: no stream, but {status}: {}",
                response.text().await?
            );
        }
        Ok(EventStream::new(response, contract))
    }
}
