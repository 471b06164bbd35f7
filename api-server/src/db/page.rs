//! Lists, a page at a time. The SQL consists of fixed fragments; whatever a client said is bound.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::DbError;
use crate::domain::page::{Kind, Page, Position, Slice, SortKey, Value};

/// A list that is being put together: `select … from …`, then its conditions, then [`Listing::fetch`].
pub struct Listing<'a, K> {
    query: QueryBuilder<Postgres>,
    page: &'a Page<K>,
    key: &'static str,
    id: &'static str,
}

impl<'a, K: SortKey> Listing<'a, K> {
    /// A list of `columns` of `from` (tables and joins) in the order of `page`. `key` is the
    /// expression of the page's sort key, `id` that of the id: neither may be null. An index over
    /// both, in this order, lets a page cost what it costs however long the list is.
    pub fn new(
        columns: &'static str,
        from: &'static str,
        page: &'a Page<K>,
        key: &'static str,
        id: &'static str,
    ) -> Self {
        let mut query = QueryBuilder::new("select ");
        for part in [
            columns,
            ", ",
            key,
            " as page_key, ",
            id,
            " as page_id from ",
            from,
            " where true",
        ] {
            query.push(part);
        }
        Self {
            query,
            page,
            key,
            id,
        }
    }

    /// Only rows of which `condition` holds.
    #[must_use]
    pub fn only(mut self, condition: &'static str) -> Self {
        self.query.push(" and ").push(condition);
        self
    }

    /// Only rows whose `column` is `value`; all when there is no value.
    #[must_use]
    pub fn equal<T>(mut self, column: &'static str, value: Option<T>) -> Self
    where
        T: for<'q> sqlx::Encode<'q, Postgres> + sqlx::Type<Postgres> + Send + 'static,
    {
        if let Some(value) = value {
            self.query.push(" and ").push(column).push(" = ");
            self.query.push_bind(value);
        }
        self
    }

    /// Only rows whose `column` is later than `time`.
    #[must_use]
    pub fn later(mut self, column: &'static str, time: OffsetDateTime) -> Self {
        self.query.push(" and ").push(column).push(" > ");
        self.query.push_bind(time);
        self
    }

    /// Only rows whose `column` begins with `text`; all when there is no text.
    #[must_use]
    pub fn begins(mut self, column: &'static str, text: Option<&str>) -> Self {
        if let Some(text) = text {
            self.query.push(" and ").push(column).push(" like ");
            self.query.push_bind(format!("{}%", escaped(text)));
        }
        self
    }

    /// Only rows whose `column` is not before this time; all when there is none.
    #[must_use]
    pub fn since(self, column: &'static str, time: Option<OffsetDateTime>) -> Self {
        self.compare(column, " >= ", time)
    }

    /// Only rows whose `column` is before this time; all when there is none.
    #[must_use]
    pub fn until(self, column: &'static str, time: Option<OffsetDateTime>) -> Self {
        self.compare(column, " < ", time)
    }

    fn compare(
        mut self,
        column: &'static str,
        sign: &'static str,
        time: Option<OffsetDateTime>,
    ) -> Self {
        if let Some(time) = time {
            self.query.push(" and ").push(column).push(sign);
            self.query.push_bind(time);
        }
        self
    }

    /// Only rows one of whose `columns` holds `text`, whatever its case; all when there is no text.
    #[must_use]
    pub fn search(mut self, columns: &[&'static str], text: Option<&str>) -> Self {
        let Some(text) = text else { return self };
        let pattern = format!("%{}%", escaped(text));
        self.query.push(" and (false");
        for column in columns {
            self.query.push(" or ").push(column).push(" ilike ");
            self.query.push_bind(pattern.clone());
        }
        self.query.push(")");
        self
    }

    /// The page.
    pub async fn fetch<R>(mut self, connection: &mut PgConnection) -> Result<Slice<R>, DbError>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        self.finish();
        // Planned for the values it is asked with: a plan for any value, which PostgreSQL may keep of
        // a statement that it has seen five times, reads whole tables for a search.
        let query = self.query.build().persistent(false);
        let mut rows = query.fetch_all(connection).await?;
        let limit = self.page.limit.map_or(usize::MAX, usize::from);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().filter(|_| more);
        Ok(Slice {
            next: last.map(|row| position::<K>(row, self.page)).transpose()?,
            items: rows.iter().map(R::from_row).collect::<Result<_, _>>()?,
        })
    }

    fn finish(&mut self) {
        let Page {
            order,
            after,
            limit,
        } = self.page;
        let (beyond, direction) = if order.descending {
            (" < ", " desc")
        } else {
            (" > ", "")
        };
        // A comparison of a column with itself beside it is of no use to the planner.
        let alone = self.key == self.id;
        if let Some(Position { value, id }) = after {
            if alone {
                self.query.push(" and ").push(self.id).push(beyond);
                bind(&mut self.query, id);
            } else {
                self.query.push(" and (").push(self.key).push(", ");
                self.query.push(self.id).push(")").push(beyond).push("(");
                bind(&mut self.query, value);
                self.query.push(", ");
                bind(&mut self.query, id);
                self.query.push(")");
            }
        }
        self.query.push(" order by ");
        if !alone {
            self.query.push(self.key).push(direction).push(", ");
        }
        self.query.push(self.id).push(direction);
        if let Some(limit) = limit {
            // One more tells whether there is a next page.
            self.query.push(" limit ");
            self.query.push_bind(i64::from(*limit) + 1);
        }
    }
}

fn bind(query: &mut QueryBuilder<Postgres>, value: &Value) {
    match value {
        Value::Text(text) => query.push_bind(text.clone()),
        Value::Number(number) => query.push_bind(*number),
        Value::Time(time) => query.push_bind(*time),
        Value::Id(id) => query.push_bind(*id),
    };
}

fn position<K: SortKey>(row: &PgRow, page: &Page<K>) -> Result<Position, DbError> {
    Ok(Position {
        value: value(row, "page_key", page.order.key.kind())?,
        id: value(row, "page_id", K::ID)?,
    })
}

fn value(row: &PgRow, column: &str, kind: Kind) -> Result<Value, DbError> {
    Ok(match kind {
        Kind::Text => Value::Text(row.try_get(column)?),
        Kind::Number => Value::Number(number(row, column)?),
        Kind::Time => Value::Time(row.try_get::<OffsetDateTime, _>(column)?),
        Kind::Id => Value::Id(row.try_get::<Uuid, _>(column)?),
    })
}

/// `integer` or `bigint`.
fn number(row: &PgRow, column: &str) -> Result<i64, DbError> {
    if let Ok(number) = row.try_get::<i32, _>(column) {
        return Ok(i64::from(number));
    }
    Ok(row.try_get(column)?)
}

/// Text of a client in a pattern of `like`.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if matches!(char, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::page::{Order, sort_keys};

    sort_keys! {
        /// What rows are listed by.
        enum RowSort of Number, default Id ascending {
            Id = "id" Number,
            Name = "name" Text,
        }
    }

    fn sql(key: RowSort, descending: bool, after: Option<Position>) -> String {
        let page = Page {
            order: Order { key, descending },
            after,
            limit: Some(7),
        };
        let key = match key {
            RowSort::Id => "r.id",
            RowSort::Name => "r.name",
        };
        let listing = Listing::new("r.x", "r", &page, key, "r.id");
        let mut listing = listing
            .equal("r.kind", Some("' or 1=1".to_owned()))
            .equal("r.other", None::<i64>)
            .search(&["r.name", "r.email"], Some("50%"));
        listing.finish();
        listing.query.sql().as_str().to_owned()
    }

    #[test]
    fn what_a_client_says_is_bound() {
        let conditions =
            "where true and r.kind = $1 and (false or r.name ilike $2 or r.email ilike $3)";
        assert_eq!(
            sql(RowSort::Id, false, None),
            format!(
                "select r.x, r.id as page_key, r.id as page_id from r {conditions} order by r.id \
                 limit $4"
            )
        );
        let after = Position {
            value: Value::Text("x".to_owned()),
            id: Value::Number(1),
        };
        assert_eq!(
            sql(RowSort::Name, true, Some(after.clone())),
            format!(
                "select r.x, r.name as page_key, r.id as page_id from r {conditions} \
                 and (r.name, r.id) < ($4, $5) order by r.name desc, r.id desc limit $6"
            )
        );
        let alone = sql(RowSort::Id, true, Some(after));
        assert!(
            alone.ends_with("and r.id < $4 order by r.id desc limit $5"),
            "{alone}"
        );
        assert_eq!(escaped("5%_\\"), "5\\%\\_\\\\");
    }
}
