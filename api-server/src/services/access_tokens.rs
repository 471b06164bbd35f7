//! Access tokens: JWT (RFC 7519) that name a session for ten minutes.
//!
//! They spare nobody a question to the database, because the session is looked up with each request.
//! What they give is that a client's log or a proxy that keeps a token keeps nothing for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::CryptoRng;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::denied::Denied;
use super::work::Work;
use super::{Error, Portal};
use crate::causes::causes;
use crate::db::signing_keys::{self, SealedKey};
use crate::domain::AccountId;
use crate::domain::account::SessionId;
use crate::domain::session::{ACCESS_TOKEN_LIFE, Session, SigningKeyId};
use crate::vault::Place;

/// The one algorithm: what a token says of itself changes nothing.
const ALGORITHM: Algorithm = Algorithm::HS256;

const ISSUER: &str = "pbx-portal";
const AUDIENCE: &str = "pbx-portal-api";

/// How long a key signs before a fresh one does.
const KEY_LIFE: Duration = Duration::days(30);

/// How long a key still verifies after that: longer than any token that it signed.
const KEY_AFTERLIFE: Duration = Duration::days(1);

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// The account.
    sub: Uuid,
    /// The session.
    sid: Uuid,
    iat: i64,
    exp: i64,
}

struct Key {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// The signing keys that this portal has opened so far. No `Debug`.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<SigningKeyId, Arc<Key>>>);

impl Keys {
    fn get(&self, id: SigningKeyId) -> Option<Arc<Key>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).map(Arc::clone)
    }

    fn add(&self, id: SigningKeyId, secret: &[u8]) -> Result<Arc<Key>, Error> {
        let keys = EncodingKey::from_secret(secret).and_then(|encoding| {
            let decoding = DecodingKey::from_secret(secret)?;
            Ok(Arc::new(Key { encoding, decoding }))
        });
        let key = keys.map_err(|_| Error::Signing)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, Arc::clone(&key));
        Ok(key)
    }
}

/// An access token.
pub struct AccessToken {
    text: SecretString,
    /// For how long it is good.
    pub lasts: Duration,
}

impl AccessToken {
    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        secrecy::ExposeSecret::expose_secret(&self.text)
    }
}

/// Makes an access token for a session.
pub(super) async fn issue(
    work: &mut Work<'_>,
    keys: &Keys,
    session: &Session,
    rng: &mut (impl CryptoRng + Send),
) -> Result<AccessToken, Error> {
    let (id, key) = signing_key(work, keys, rng).await?;
    let lasts = ACCESS_TOKEN_LIFE.min(session.expires_at - work.now);
    let claims = Claims {
        iss: ISSUER.to_owned(),
        aud: AUDIENCE.to_owned(),
        sub: session.account.0,
        sid: session.id.0,
        iat: work.now.unix_timestamp(),
        exp: (work.now + lasts).unix_timestamp(),
    };
    let header = Header {
        kid: Some(id.to_string()),
        ..Header::new(ALGORITHM)
    };
    let text = jsonwebtoken::encode(&header, &claims, &key.encoding);
    Ok(AccessToken {
        text: text.map_err(|_| Error::Signing)?.into(),
        lasts,
    })
}

/// The newest key, or a fresh one in its place when it has signed for long enough.
async fn signing_key(
    work: &mut Work<'_>,
    keys: &Keys,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(SigningKeyId, Arc<Key>), Error> {
    let mut newest = signing_keys::newest(work.connection()).await?;
    let (vault, now) = (work.vault, work.now);
    if newest
        .as_ref()
        .is_none_or(|key| key.created_at + KEY_LIFE <= now)
    {
        signing_keys::make(work.connection(), vault, now, rng).await?;
        signing_keys::remove_older(work.connection(), now - KEY_LIFE - KEY_AFTERLIFE).await?;
        newest = signing_keys::newest(work.connection()).await?;
    }
    let newest = newest.ok_or(Error::Signing)?;
    if let Some(key) = keys.get(newest.id) {
        return Ok((newest.id, key));
    }
    let opener = vault.opener(work.connection()).await?;
    let secret = opener.open(Place::SigningKey(newest.id), &newest.encrypted)?;
    Ok((newest.id, keys.add(newest.id, &secret)?))
}

/// The session that a token names, and whose it is.
///
/// # Errors
/// [`Denied::Unauthenticated`] for whatever this portal's database did not sign, or is too old.
pub(super) async fn verify(portal: &Portal, token: &str) -> Result<(SessionId, AccountId), Error> {
    let unknown = || Error::from(Denied::Unauthenticated);
    let header = jsonwebtoken::decode_header(token).map_err(|_| unknown())?;
    let kid = header.kid.filter(|kid| kid.len() == 36);
    let kid = kid.and_then(|kid| Uuid::try_parse(&kid).ok());
    let kid = SigningKeyId(kid.ok_or_else(unknown)?);
    let key = match portal.gate.keys.get(kid) {
        Some(key) => key,
        None => learn(portal, kid).await?.ok_or_else(unknown)?,
    };
    let now = portal.clock.now();
    let claims = decode(token, &key.decoding, now).ok_or_else(unknown)?;
    Ok((SessionId(claims.sid), AccountId(claims.sub)))
}

/// Opens a key of the database.
async fn learn(portal: &Portal, id: SigningKeyId) -> Result<Option<Arc<Key>>, Error> {
    let mut connection = portal.database.acquire().await?;
    let Some(SealedKey { encrypted, .. }) = signing_keys::find(&mut connection, id).await? else {
        return Ok(None);
    };
    let opener = portal.vault.opener(&mut connection).await?;
    match opener.open(Place::SigningKey(id), &encrypted) {
        Ok(secret) => Ok(Some(portal.gate.keys.add(id, &secret)?)),
        Err(error) => {
            tracing::error!(key = %id, error = causes(&error), "a signing key does not open");
            Ok(None)
        }
    }
}

/// What a token says, if the key signed it and it is good now.
fn decode(token: &str, key: &DecodingKey, now: OffsetDateTime) -> Option<Claims> {
    let mut validation = Validation::new(ALGORITHM);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
    // Judged below, by the portal's clock and to the second.
    validation.validate_exp = false;
    let claims: Claims = jsonwebtoken::decode(token, key, &validation).ok()?.claims;
    (claims.exp > now.unix_timestamp()).then_some(claims)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: [u8; 32] = [7; 32];
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn claims() -> Value {
        let id = Uuid::nil();
        json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": id, "sid": id, "iat": -1, "exp": 1 })
    }

    fn signed(algorithm: Algorithm, claims: &Value) -> String {
        let key = EncodingKey::from_secret(&SECRET).unwrap();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn is_taken(token: &str) -> bool {
        decode(token, &DecodingKey::from_secret(&SECRET).unwrap(), NOW).is_some()
    }

    #[test]
    fn only_what_is_signed_for_here_and_now_is_taken() {
        assert!(is_taken(&signed(ALGORITHM, &claims())));
        for (claim, value) in [
            ("exp", json!(0)),
            ("iss", json!("somebody")),
            ("aud", json!("other-api")),
            ("exp", Value::Null),
            ("iss", Value::Null),
            ("aud", Value::Null),
            ("sub", Value::Null),
            ("sid", json!("x")),
        ] {
            let mut other = claims();
            if value.is_null() {
                other.as_object_mut().unwrap().remove(claim);
            } else {
                other[claim] = value;
            }
            assert!(!is_taken(&signed(ALGORITHM, &other)), "{other}");
        }
    }

    #[test]
    fn no_other_algorithm_is_taken() {
        for other in [Algorithm::HS384, Algorithm::HS512] {
            assert!(!is_taken(&signed(other, &claims())), "{other:?}");
        }
        let token = signed(ALGORITHM, &claims());
        let (_, rest) = token.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        for algorithm in ["none", "None", "RS256", "ES256", "EdDSA", ""] {
            let header = json!({ "typ": "JWT", "alg": algorithm }).to_string();
            let header = URL_SAFE_NO_PAD.encode(header);
            for signature in [signature, ""] {
                let forged = format!("{header}.{payload}.{signature}");
                assert!(!is_taken(&forged), "{algorithm}");
            }
        }
    }

    #[test]
    fn no_other_signature_is_taken() {
        let token = signed(ALGORITHM, &claims());
        for cut in 1..=43 {
            assert!(!is_taken(&token[..token.len() - cut]));
        }
        let (signed_part, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = signed_part.split_once('.').unwrap();
        let mut other = claims();
        other["sub"] = json!(Uuid::max());
        let payload = URL_SAFE_NO_PAD.encode(other.to_string());
        assert!(!is_taken(&format!("{header}.{payload}.{signature}")));
        let key = DecodingKey::from_secret(&[8; 32]).unwrap();
        assert!(decode(&token, &key, NOW).is_none());
    }
}
