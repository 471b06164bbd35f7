//! Lists, a page at a time: ordered by one key and, among equals, by the id; the next page begins
//! after the last row of this one, so that nothing is shown twice or left out when rows come and go.

use time::OffsetDateTime;
use uuid::Uuid;

/// A value that rows are ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `text`, by the collation of the database.
    Text(String),
    /// `bigint`.
    Number(i64),
    /// `timestamptz`, to a microsecond.
    Time(OffsetDateTime),
    /// `uuid`.
    Id(Uuid),
}

/// The type of a [`Value`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Text`].
    Text,
    /// [`Value::Number`].
    Number,
    /// [`Value::Time`].
    Time,
    /// [`Value::Id`].
    Id,
}

/// What a list can be ordered by; declared with `sort_keys!`.
/// No row may lack a key.
pub trait SortKey: Copy + PartialEq + std::fmt::Debug + 'static {
    /// Every key.
    const ALL: &'static [Self];
    /// What a list is ordered by unless told otherwise.
    const DEFAULT: Order<Self>;
    /// The type of the rows' ids.
    const ID: Kind;
    /// What it is called in a query.
    fn name(self) -> &'static str;
    /// The type of its values.
    fn kind(self) -> Kind;
}

/// By what a list is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order<K> {
    /// The key.
    pub key: K,
    /// The highest first.
    pub descending: bool,
}

/// The place of a row in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its value of the list's key.
    pub value: Value,
    /// Its id.
    pub id: Value,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The order of the whole list.
    pub order: Order<K>,
    /// Only what comes after this place.
    pub after: Option<Position>,
    /// At most so many rows; `None`: all.
    pub limit: Option<u16>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Slice<T> {
    /// The rows, in order.
    pub items: Vec<T>,
    /// The place of the last of them, when there are more.
    pub next: Option<Position>,
}

impl<T> Default for Slice<T> {
    /// Nothing.
    fn default() -> Self {
        Self {
            items: Vec::new(),
            next: None,
        }
    }
}

impl<T> Slice<T> {
    /// With every row turned into something else.
    pub fn map<U>(self, turn: impl FnMut(T) -> U) -> Slice<U> {
        let items = self.items.into_iter().map(turn).collect();
        let next = self.next;
        Slice { items, next }
    }

    /// With every row turned into something else, unless one cannot be.
    pub fn try_map<U, E>(self, turn: impl FnMut(T) -> Result<U, E>) -> Result<Slice<U>, E> {
        let items = self.items.into_iter().map(turn).collect::<Result<_, _>>()?;
        let next = self.next;
        Ok(Slice { items, next })
    }
}

/// Declares what a list can be ordered by: the type of its ids, the order unless told otherwise,
/// and each key with its name and type.
///
/// ```ignore
/// sort_keys! {
///     /// What users are listed by.
///     pub enum UserSort of Id, default Extension ascending {
///         Extension = "extension" Number,
///         Name = "name" Text,
///     }
/// }
/// ```
macro_rules! sort_keys {
    (
        $(#[$doc:meta])*
        $vis:vis enum $name:ident of $id:ident, default $default:ident $direction:ident {
            $($key:ident = $text:literal $kind:ident,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = concat!("`", $text, "`.")] $key,)+
        }

        impl $crate::domain::page::SortKey for $name {
            const ALL: &'static [Self] = &[$(Self::$key,)+];
            const DEFAULT: $crate::domain::page::Order<Self> = $crate::domain::page::Order {
                key: Self::$default,
                descending: $crate::domain::page::sort_keys!(@ $direction),
            };
            const ID: $crate::domain::page::Kind = $crate::domain::page::Kind::$id;

            fn name(self) -> &'static str {
                match self { $(Self::$key => $text,)+ }
            }

            fn kind(self) -> $crate::domain::page::Kind {
                match self { $(Self::$key => $crate::domain::page::Kind::$kind,)+ }
            }
        }
    };
    (@ ascending) => { false };
    (@ descending) => { true };
}
pub(crate) use sort_keys;
