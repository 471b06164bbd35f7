//! Divides the names of objects into classes, each small enough to be listed quickly.
//!
//! Asterisk sorts what `pjsip list` shows by inserting it into a linked list, so that 10,000 names
//! cost a hundred times what 1,000 do. `pjsip list endpoints like REGEX` sorts only what matches.
//! The classes are complete and disjoint: every name that is possible, expected or not, belongs to
//! exactly one of them, so that nothing can hide between them.

/// Names per class that cost least together: one pass over all names per class against the square
/// of its size, by measurement.
fn names_per_class(names: usize) -> usize {
    const NAMES_MIN: usize = 200;
    (8 * names.isqrt()).max(NAMES_MIN)
}

/// Longest regular expression: several fit into one message to Asterisk.
const REGEX_BYTES_MAX: usize = 160;

/// The names that match one of the branches; every name when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class(Vec<Branch>);

/// Names that begin alike and go on with one of `next`, or with anything else, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Branch {
    prefix: String,
    next: String,
    /// Whether `next` is what follows, or what does not.
    follows: bool,
}

impl Branch {
    fn regex(&self) -> String {
        let Self { prefix, next, .. } = self;
        // A `-` stands for itself at the end only.
        let (dash, plain): (String, String) = next.chars().partition(|&c| c == '-');
        if self.follows {
            format!("^{prefix}[{plain}{dash}]")
        } else {
            format!("^{prefix}([^{plain}{dash}]|$)")
        }
    }

    fn has(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.prefix) else {
            return false;
        };
        let next = rest.chars().next();
        next.is_some_and(|next| self.next.contains(next)) == self.follows
    }
}

impl Class {
    /// What stands behind `like` in the command; `None` when every name belongs to it.
    pub(super) fn regex(&self) -> Option<String> {
        let branches: Vec<_> = self.0.iter().map(Branch::regex).collect();
        (!branches.is_empty()).then(|| branches.join("|"))
    }

    /// Whether a name belongs to it.
    pub fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|branch| branch.has(name))
    }

    /// Classes for all names, small when Asterisk holds about `names`, which are sorted and are
    /// [`Name`](super::Name)s.
    pub(crate) fn divide(names: &[&str]) -> Vec<Self> {
        let max = names_per_class(names.len());
        let (mut within, mut beside) = (Vec::new(), Vec::new());
        if names.len() > max {
            split(names, 0, max, &mut within, &mut beside);
        }
        let mut classes: Vec<_> = within
            .into_iter()
            .map(|branch| Self(vec![branch]))
            .collect();
        let mut length = 0;
        let mut rest = Self::default();
        for branch in beside {
            let added = branch.regex().len() + 1;
            if length + added > REGEX_BYTES_MAX && !rest.0.is_empty() {
                classes.push(std::mem::take(&mut rest));
                length = 0;
            }
            length += added;
            rest.0.push(branch);
        }
        classes.push(rest);
        classes
    }
}

/// Divides names that have their first `depth` bytes in common: the small ones among those that go
/// on alike are put together, the large ones divided further. What goes on in no known way belongs
/// to `beside`.
fn split(
    names: &[&str],
    depth: usize,
    max: usize,
    within: &mut Vec<Branch>,
    beside: &mut Vec<Branch>,
) {
    let prefix = names[0][..depth].to_owned();
    let branch = |next: String, follows| Branch {
        prefix: prefix.clone(),
        next,
        follows,
    };
    let next = |name: &str| name[depth..].chars().next();
    let (mut all, mut together, mut size) = (String::new(), String::new(), 0);
    for group in names.chunk_by(|one, other| next(one) == next(other)) {
        let Some(char) = next(group[0]) else {
            continue;
        };
        all.push(char);
        // One that is little too large costs less as it is than as two.
        if group.len() > max + max / 2 {
            split(group, depth + char.len_utf8(), max, within, beside);
            continue;
        }
        if size + group.len() > max && size > 0 {
            within.push(branch(std::mem::take(&mut together), true));
            size = 0;
        }
        together.push(char);
        size += group.len();
    }
    if !together.is_empty() {
        within.push(branch(together, true));
    }
    beside.push(branch(all, false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names
    }

    fn divided(names: &[String]) -> Vec<Class> {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        Class::divide(&names)
    }

    fn samples() -> Vec<Vec<String>> {
        let numbers = |range: std::ops::Range<u32>| range.map(|n| n.to_string());
        let devices = (1..40).flat_map(|t| (1000..1100).map(move |n| format!("t{t}-{n}-a")));
        vec![
            Vec::new(),
            sorted(numbers(1000..1010)),
            sorted(numbers(1000..2000).chain(["synergy-generation".to_owned()])),
            sorted(numbers(0..20_000)),
            sorted(numbers(100_000..110_000)),
            sorted(devices),
        ]
    }

    /// Whatever a name is, expected or not, exactly one class has it.
    #[test]
    fn classes_are_complete_and_disjoint() {
        for names in samples() {
            let classes = divided(&names);
            let odd = [
                "",
                "1",
                "10",
                "100",
                "10000",
                "1000-",
                "19999",
                "2",
                "t",
                "t1",
                "t1-",
                "t40-1000-a",
                "T1",
                "trunk",
                "synergy",
                "synergy-generation2",
                "é",
                "1é",
                "-",
                "zz",
                "1000 x",
            ];
            let others = odd.iter().map(|&name| name.to_owned());
            for name in others.chain(names.iter().cloned()) {
                let having = classes.iter().filter(|class| class.has(&name)).count();
                assert_eq!(having, 1, "{name} with {} names", names.len());
            }
        }
    }

    #[test]
    fn classes_are_small_and_few() {
        for names in samples() {
            let classes = divided(&names);
            let max = names_per_class(names.len());
            for class in &classes {
                let size = names.iter().filter(|name| class.has(name)).count();
                assert!(size <= max + max / 2, "{size} of {}", names.len());
                assert!(
                    class
                        .regex()
                        .is_none_or(|regex| regex.len() <= REGEX_BYTES_MAX)
                );
            }
            let few = 3 + 4 * names.len().div_ceil(max);
            assert!(
                classes.len() <= few,
                "{} for {}",
                classes.len(),
                names.len()
            );
        }
    }

    #[test]
    fn a_class_is_an_extended_regular_expression() {
        let names = sorted(
            (1000..2000)
                .map(|n| n.to_string())
                .chain(["a-b".to_owned()]),
        );
        let regexes: Vec<_> = divided(&names).iter().filter_map(Class::regex).collect();
        assert_eq!(
            regexes,
            [
                "^1[01]",
                "^1[23]",
                "^1[45]",
                "^1[67]",
                "^1[89]",
                "^[a]",
                "^1([^0123456789]|$)|^([^1a]|$)"
            ]
        );
        assert_eq!(Class::default().regex(), None);
    }
}
