//! Hashing of passwords and PINs: slow by design, so it is done apart from the threads that serve
//! requests, by a few at a time, and only so many may wait for it.
//!
//! Strangers wait apart from those who are known: who is signed in, or comes from an address from
//! which the same account was signed in to before. So a storm of strangers keeps nobody out who is
//! known, and tells nobody which logins there are: a stranger waits with strangers whatever it tries.
//!
//! What is tried against an account that does not exist, or has no password, is tried against
//! `NOBODYS` instead: it costs the same, because it is the same.

use tokio::sync::Semaphore;

use super::{Error, argon2id};
use crate::domain::password::{NewPassword, Password, PasswordHash};

/// How many are worked on at once in each line: each takes 19 MiB and some 20 ms of a core.
const AT_ONCE: usize = 2;

/// How many more may wait there, for less than a second then.
const WAITING_MAX: usize = 32;

/// Those who wait for the same.
struct Line {
    places: Semaphore,
    turns: Semaphore,
}

impl Line {
    const fn new() -> Self {
        Self {
            places: Semaphore::const_new(AT_ONCE + WAITING_MAX),
            turns: Semaphore::const_new(AT_ONCE),
        }
    }
}

static KNOWN: Line = Line::new();
static STRANGERS: Line = Line::new();

/// How many of very many are worked on at once.
const OF_MANY_AT_ONCE: usize = 2;

/// Those that are some of very many, of whomever.
static OF_MANY: Semaphore = Semaphore::const_new(OF_MANY_AT_ONCE);

/// Who wants a password tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who is signed in, or comes from where the account was signed in to before.
    Known,
    /// Anybody else.
    Stranger,
}

impl Caller {
    const fn line(self) -> &'static Line {
        match self {
            Self::Known => &KNOWN,
            Self::Stranger => &STRANGERS,
        }
    }
}

/// A hash with the parameters of all others, of octets that nobody knows a password for.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$oiLVW8ebCtTONnV8qEZyxg$SnljG1pOybxxYDazsQLoPite5oVz9VNbv/hVWqu8Db0";

/// What trying a password showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right.
    Right {
        /// Its hash was made with less effort than is made now.
        outdated: bool,
    },
    /// It is wrong, or there is none.
    Wrong,
}

/// Hashes a password that was chosen.
///
/// # Errors
/// [`Error::Overloaded`].
pub async fn hash(password: NewPassword) -> Result<PasswordHash, Error> {
    let hash = in_turn(move || argon2id::hash(password.expose())).await??;
    Ok(PasswordHash::new(hash))
}

/// Hashes a password that was right, with the effort of today.
///
/// # Errors
/// [`Error::Overloaded`].
pub async fn rehash(password: Password) -> Result<PasswordHash, Error> {
    let hash = in_turn(move || argon2id::hash(password.expose())).await??;
    Ok(PasswordHash::new(hash))
}

/// Judges a password that somebody wants to have, and hashes it. `about` is what is known of its
/// owner.
///
/// # Errors
/// [`Error::InvalidField`] of `field`; [`Error::Overloaded`].
pub async fn choose(
    field: &'static str,
    password: Password,
    about: Vec<String>,
) -> Result<PasswordHash, Error> {
    let work = move || {
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let chosen = NewPassword::choose(password, &about);
        let chosen = chosen.map_err(|reason| Error::InvalidField { field, reason })?;
        argon2id::hash(chosen.expose())
    };
    Ok(PasswordHash::new(in_turn(work).await??))
}

/// Tries a password against a hash; `None` where there is none.
///
/// # Errors
/// [`Error::Overloaded`].
pub async fn verify(
    caller: Caller,
    password: Password,
    hash: Option<PasswordHash>,
) -> Result<Verdict, Error> {
    in_line(caller, move || judge(&password, hash.as_ref(), evaluate)).await
}

fn judge(
    password: &Password,
    hash: Option<&PasswordHash>,
    evaluate: impl FnOnce(&Password, &str) -> bool,
) -> Verdict {
    let against = hash.map_or(NOBODYS, PasswordHash::expose);
    match (evaluate(password, against), hash) {
        (true, Some(hash)) => Verdict::Right {
            outdated: argon2id::is_outdated(hash.expose()),
        },
        (true, None) | (false, _) => Verdict::Wrong,
    }
}

/// Carries slow work out for somebody known when it is its turn.
///
/// # Errors
/// [`Error::Overloaded`] when too many wait already.
pub(super) async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    in_line(Caller::Known, work).await
}

/// Carries slow work out that is one of very many of the same. Single ones find no more than two of them
/// before themselves, and all their places free; the many of several callers alternate, as they are asked for.
pub(super) async fn one_of_many<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let among_many = OF_MANY.acquire().await;
    let turn = KNOWN.turns.acquire().await;
    let work = move || {
        let _held = (among_many, turn);
        work()
    };
    Ok(tokio::task::spawn_blocking(work).await?)
}

async fn in_line<T: Send + 'static>(
    caller: Caller,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let Line { places, turns } = caller.line();
    // Nobody closes them.
    let place = places
        .try_acquire()
        .map_err(|_| Error::Overloaded("too many passwords are being checked"))?;
    let turn = turns.acquire().await;
    // What was begun goes on when its request is given up, and keeps its place until then.
    let work = move || {
        let _held = (place, turn);
        work()
    };
    Ok(tokio::task::spawn_blocking(work).await?)
}

fn evaluate(password: &Password, hash: &str) -> bool {
    argon2id::matches(password.expose(), hash)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn password(text: &str) -> Password {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn right_and_wrong() {
        let chosen = NewPassword::choose(password("correct horse battery staple"), &[]).unwrap();
        let hash = hash(chosen).await.unwrap();
        let start = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(hash.expose().starts_with(start));
        let verify = |text, hash| verify(Caller::Stranger, password(text), hash);
        let right = verify("correct horse battery staple", Some(hash.clone()));
        assert_eq!(right.await.unwrap(), Verdict::Right { outdated: false });
        let wrong = verify("correct horse battery stapler", Some(hash));
        assert_eq!(wrong.await.unwrap(), Verdict::Wrong);
        // Strangers who take every place take none from others.
        let all = STRANGERS.places.available_permits();
        let _all = STRANGERS
            .places
            .try_acquire_many(u32::try_from(all).unwrap());
        let stranger = verify("x", None).await;
        assert!(matches!(stranger, Err(Error::Overloaded(_))));
        let known = super::verify(Caller::Known, password("x"), None).await;
        assert_eq!(known.unwrap(), Verdict::Wrong);
    }

    /// Whoever hashes very many keeps no single one out. (Other tests need places as well.)
    #[tokio::test]
    async fn very_many_take_no_place_of_single_ones() {
        let mut many = tokio::task::JoinSet::new();
        for _ in 0..80 {
            many.spawn(one_of_many(|| ()));
        }
        let mut single = tokio::task::JoinSet::new();
        for _ in 0..WAITING_MAX / 2 {
            single.spawn(in_turn(|| ()));
        }
        while let Some(done) = single.join_next().await {
            done.unwrap().unwrap();
        }
        while let Some(done) = many.join_next().await {
            done.unwrap().unwrap();
        }
    }

    /// Nobody can tell by the time of the answer whether there is such an account: in each case
    /// there is one evaluation, of a hash with the same parameters.
    #[test]
    fn nobody_costs_as_much_as_somebody() {
        let somebodys = argon2id::hash("correct horse battery staple").unwrap();
        let somebodys = PasswordHash::new(somebodys);
        for (hash, matches) in [
            (Some(&somebodys), true),
            (Some(&somebodys), false),
            (None, true),
            (None, false),
        ] {
            let evaluated = RefCell::new(Vec::new());
            let verdict = judge(&password("x"), hash, |_, against| {
                evaluated.borrow_mut().push(against.to_owned());
                matches
            });
            let evaluated = evaluated.into_inner();
            assert_eq!(evaluated.len(), 1);
            assert!(!argon2id::is_outdated(&evaluated[0]), "other parameters");
            assert_eq!(evaluated[0].len(), somebodys.expose().len());
            let right = matches!(verdict, Verdict::Right { .. });
            // Not even whoever found a password for nobody's hash gets in.
            assert_eq!(right, matches && hash.is_some());
        }
    }
}
