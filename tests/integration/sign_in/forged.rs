//! Access tokens that this portal's database did not sign, or not for this.

use anyhow::Context as _;
use api_server::clock::{Clock as _, SystemClock};
use api_server::domain::session::SigningKeyId;
use api_server::vault::{Place, Vault};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::portal::{Client, SECRET_KEY};
use uuid::Uuid;

use super::{Tokens, ann, assert_out, current, lab};

/// The parts of a token.
fn parts(token: &str) -> anyhow::Result<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().ok().context("not three parts")
}

/// The key of a portal: what an attacker would have to know.
async fn key(pool: &PgPool) -> anyhow::Result<(Uuid, Vec<u8>)> {
    let (id, sealed): (Uuid, Vec<u8>) =
        sqlx::query_as("select signing_key_id, key_encrypted from signing_key")
            .fetch_one(pool)
            .await?;
    let vault: Vault = SECRET_KEY.parse()?;
    let opener = vault.opener(&mut *pool.acquire().await?).await?;
    Ok((
        id,
        opener.open(Place::SigningKey(SigningKeyId(id)), &sealed)?,
    ))
}

/// What a good token of a session says.
fn claims(account: Uuid, session: &str) -> Value {
    let now = SystemClock.now().unix_timestamp();
    json!({
        "iss": "pbx-portal", "aud": "pbx-portal-api", "sub": account, "sid": session,
        "iat": now, "exp": now + 300,
    })
}

fn sign(header: &Header, claims: &Value, secret: &[u8]) -> anyhow::Result<String> {
    let key = EncodingKey::from_secret(secret)?;
    Ok(jsonwebtoken::encode(header, claims, &key)?)
}

fn header(algorithm: Algorithm, kid: &str) -> Header {
    Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    }
}

/// Header and payload as they stand in a token.
fn encoded(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

async fn assert_refused(client: &Client, token: &str, why: &str) -> anyhow::Result<()> {
    assert_out(&client.with_bearer(token), why).await
}

#[tokio::test]
async fn the_portal_alone_says_how_a_token_is_signed() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let (kid, secret) = key(&pool).await?;
    let (kid, good) = (kid.to_string(), claims(account, &tokens.id));
    // The forger has the key itself here, so that nothing else can be what stops it.
    let forged = sign(&header(Algorithm::HS256, &kid), &good, &secret)?;
    current(&lab.client.with_bearer(&forged))
        .await?
        .expect(200)?;
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let forged = sign(&header(algorithm, &kid), &good, &secret)?;
        assert_refused(&lab.client, &forged, "another algorithm").await?;
    }
    let [_, payload, signature] = parts(&forged)?;
    for algorithm in [
        "none", "NONE", "nOnE", "RS256", "PS256", "ES256", "EdDSA", "HS256 ", "",
    ] {
        let header = encoded(&json!({ "typ": "JWT", "alg": algorithm, "kid": kid }));
        for signature in [signature, ""] {
            let forged = format!("{header}.{payload}.{signature}");
            assert_refused(&lab.client, &forged, algorithm).await?;
        }
        // The key of one algorithm taken for that of another: signed as HS256, announced otherwise.
        let signed = format!("{header}.{payload}");
        let signature = jsonwebtoken::crypto::sign(
            signed.as_bytes(),
            &EncodingKey::from_secret(&secret)?,
            Algorithm::HS256,
        )?;
        assert_refused(&lab.client, &format!("{signed}.{signature}"), algorithm).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_token_is_good_with_its_own_key_and_signature() -> anyhow::Result<()> {
    let (lab, elsewhere) = (lab().await?, lab().await?);
    let (pool, account) = ann(&lab).await?;
    ann(&elsewhere).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let (kid, secret) = key(&pool).await?;
    let (kid, good) = (kid.to_string(), claims(account, &tokens.id));
    let [head, payload, signature] = parts(&tokens.access)?;
    for cut in [1, 21, 42, 43] {
        let cut = &tokens.access[..tokens.access.len() - cut];
        assert_refused(&lab.client, cut, "a signature cut short").await?;
    }
    for altered in [
        format!("{head}.{}.{signature}", encoded(&good)),
        format!("{head}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{head}.{payload}.{signature}."),
        format!("{head}.{payload}.{signature}.{signature}"),
        format!("{head}.{payload}"),
        "..".to_owned(),
        "x".repeat(8_000),
    ] {
        assert_refused(&lab.client, &altered, "altered").await?;
    }
    let other = Tokens::open(&elsewhere.client, "ann").await?;
    assert_refused(&lab.client, &other.access, "another database's").await?;
    let (other_kid, other_secret) = key(&elsewhere.database.pool().await?).await?;
    for (kid, secret, why) in [
        (
            other_kid.to_string(),
            &other_secret,
            "another database's key",
        ),
        (kid.clone(), &other_secret, "another key of the same name"),
        (other_kid.to_string(), &secret, "the key by another name"),
        (Uuid::now_v7().to_string(), &secret, "an unknown name"),
        ("../../../../dev/null".to_owned(), &other_secret, "a path"),
        (format!("' or true or '{kid}"), &secret, "SQL"),
        (
            kid.to_uppercase().replace('-', ""),
            &secret,
            "another spelling",
        ),
    ] {
        let forged = sign(&header(Algorithm::HS256, &kid), &good, secret)?;
        assert_refused(&lab.client, &forged, why).await?;
    }
    let nameless = sign(&Header::new(Algorithm::HS256), &good, &secret)?;
    assert_refused(&lab.client, &nameless, "without a name").await?;
    // A key that the token itself brings.
    let mut with_key = header(Algorithm::HS256, &Uuid::now_v7().to_string());
    with_key.jku = Some("https://evil.example/keys".to_owned());
    let forged = sign(&with_key, &good, &other_secret)?;
    assert_refused(&lab.client, &forged, "a key of its own").await?;
    tokens.current(&lab.client).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_token_is_good_for_this_portal_its_session_and_its_time() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    let bob = super::account(&pool, "bob", super::Whose::Platform).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let browser = lab.client.sign_in_by_cookie("ann", super::PASSWORD).await?;
    let of_browser = current(&browser).await?.json()?["id"].clone();
    let (kid, secret) = key(&pool).await?;
    let header = header(Algorithm::HS256, &kid.to_string());
    let now = SystemClock.now().unix_timestamp();
    let lies: &[(&str, &str, Value)] = &[
        ("expired", "exp", json!(now - 1)),
        ("expired this second", "exp", json!(now)),
        ("without end", "exp", Value::Null),
        ("an end that is no number", "exp", json!("never")),
        ("another audience", "aud", json!("other-api")),
        ("without audience", "aud", Value::Null),
        ("another issuer", "iss", json!("other")),
        ("without issuer", "iss", Value::Null),
        ("somebody else's account", "sub", json!(bob)),
        ("without account", "sub", Value::Null),
        ("an unknown session", "sid", json!(Uuid::now_v7())),
        ("the session of a browser", "sid", of_browser),
        ("without session", "sid", Value::Null),
    ];
    for (why, claim, value) in lies {
        let mut other = claims(account, &tokens.id);
        other[*claim] = value.clone();
        if value.is_null() {
            other.as_object_mut().context("no object")?.remove(*claim);
        }
        let forged = sign(&header, &other, &secret)?;
        assert_refused(&lab.client, &forged, why).await?;
    }
    Ok(())
}

/// The refresh token, the cookie and the id of a session are no access tokens.
#[tokio::test]
async fn nothing_else_of_a_session_is_an_access_token() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    for text in [&tokens.refresh, &tokens.id, "pbxt_", "null", "undefined"] {
        assert_refused(&lab.client, text, text).await?;
    }
    for value in [
        format!("Basic {}", tokens.access),
        tokens.access.clone(),
        format!("Bearer {} x", tokens.access),
        "Bearer".to_owned(),
    ] {
        let request = lab.client.anonymous();
        let request = request.request(reqwest::Method::GET, "/sessions/current");
        let request = request.undocumented().header("authorization", &value);
        assert_eq!(request.send().await?.problem(401)?, "unauthenticated");
    }
    Ok(())
}
