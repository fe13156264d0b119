//! Reads the names in the body of a list, and keeps only those that a page needs.
//!
//! A body of 4 MiB can hold a million names. As strings they take ten times as much memory as the body, so they are counted
//! and checked while the body is parsed, and not collected. The limit on the body, `list_page_bytes`, bounds their number.
//! Values of other fields are skipped without recursion, so nesting costs no stack.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::Listing;
use crate::oci::{Repository, Tag};

/// Which names to keep: `size` names after the first `skip`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) skip: usize,
    pub(super) size: usize,
}

/// The names of a body.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names in the window.
    pub(super) kept: Vec<String>,
    /// The number of all names.
    pub(super) count: usize,
    /// The last one.
    last: String,
}

impl Names {
    /// The last of all names.
    pub(super) fn last(&self) -> Option<&str> {
        (self.count > 0).then_some(self.last.as_str())
    }
}

/// Reads the names of `listing`; `None` if the body is not such a list, or an error body. Nulls (Nexus) and invalid names
/// (Artifactory lists digests as tags) are skipped.
pub(super) fn read(body: &[u8], listing: &Listing, window: Window) -> Option<Names> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let names = json.deserialize_map(Body { listing, window }).ok()?;
    json.end().ok()?;
    names
}

/// The body. A missing list is an error; a list that is null is empty.
struct Body<'a> {
    listing: &'a Listing,
    window: Window,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    Repositories,
    Tags,
    /// Present in an error body ("Error Codes"), which some proxies send with status 200.
    Errors,
    #[serde(other)]
    Other,
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Option<Names>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let (mut repositories, mut tags, mut errors) = (None, None, None);
        while let Some(field) = fields.next_key()? {
            let (list, is_name): (_, fn(&str) -> bool) = match field {
                Field::Repositories => (&mut repositories, |name| name.parse::<Repository>().is_ok()),
                Field::Tags => (&mut tags, |name| name.parse::<Tag>().is_ok()),
                Field::Errors if errors.is_some() => return Err(Error::duplicate_field("errors")),
                Field::Errors => {
                    errors = Some(fields.next_value::<Option<IgnoredAny>>()?.is_some());
                    continue;
                }
                Field::Other => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if list.is_some() {
                return Err(Error::custom("the list is there twice"));
            }
            let mut names = Names::default();
            fields.next_value_seed(List { names: &mut names, window: self.window, is_name })?;
            *list = Some(names);
        }
        let names = match self.listing {
            Listing::Catalog(_) => repositories,
            Listing::Tags(_) => tags,
        };
        Ok(names.filter(|_| errors != Some(true)))
    }
}

/// A list of names: an array, or null.
struct List<'a> {
    names: &'a mut Names,
    window: Window,
    is_name: fn(&str) -> bool,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of names")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Entry(&mut self))?.is_some() {}
        Ok(())
    }
}

/// An entry of a list: text, or null.
struct Entry<'a, 'b>(&'a mut List<'b>);

impl<'de> DeserializeSeed<'de> for Entry<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_str(self)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        let List { names, window, is_name } = self.0;
        if !is_name(name) {
            return Ok(());
        }
        if names.count >= window.skip && names.kept.len() < window.size {
            names.kept.push(name.to_owned());
        }
        names.count += 1;
        name.clone_into(&mut names.last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::client::Target;

    fn tags(body: &str, skip: usize, size: usize) -> Option<Names> {
        let registry = "r.example".parse().unwrap();
        let repository = Repository::of(&registry, "org/app").unwrap();
        read(body.as_bytes(), &Listing::Tags(Target { registry, repository }), Window { skip, size })
    }

    #[test]
    fn a_body_is_a_list_a_null_or_an_error() {
        let list = |body: &str| {
            tags(body, 0, 10).map(|names| (names.kept.join(","), names.last().map(str::to_owned)))
        };
        let some = |names: &str, last: &str| Some((names.to_owned(), Some(last.to_owned())));
        assert_eq!(list(r#"{"name":"a","tags":["a",null,"!","b"]}"#), some("a,b", "b"));
        assert_eq!(list(r#"{"tags":["a"],"errors":null}"#), some("a", "a"));
        assert_eq!(list(r#"{"tags":["\u0061"]}"#), some("a", "a"));
        assert_eq!(list(r#"{"tags":null}"#), Some((String::new(), None)));
        assert_eq!(list(r#"{"tags":[]}"#), Some((String::new(), None)));
        for none in [
            r#"{"repositories":["a"]}"#,
            r#"{"tags":["a"],"errors":[]}"#,
            r#"{"tags":["a"],"tags":["a"]}"#,
            r#"{"tags":["a"],"errors":null,"errors":null}"#,
            r#"{"tags":["a"],"repositories":[1]}"#,
            r#"{"tags":["a",1]}"#,
            r#"{"tags":"a"}"#,
            r#"{"tags":["a"]}x"#,
            r#"{"tags":["a""#,
            "[]",
            "",
        ] {
            assert_eq!(list(none), None, "{none}");
        }
    }

    #[test]
    fn of_many_names_only_the_window_is_kept() {
        let body = format!(r#"{{"tags":[{}"z"]}}"#, r#""a","#.repeat(100_000));
        for (skip, kept) in [(0, 1000), (99_500, 501), (100_000, 1), (200_000, 0), (usize::MAX, 0)] {
            let names = tags(&body, skip, 1000).unwrap();
            assert_eq!((names.kept.len(), names.count), (kept, 100_001));
            assert!(names.kept.capacity() <= 1024);
            assert_eq!(names.last(), Some("z"));
        }
    }

    #[test]
    fn nesting_overflows_no_stack() {
        let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(tags(&format!(r#"{{"x":{open}{close},"tags":["a"]}}"#), 0, 1).unwrap().count, 1);
        assert!(tags(&format!(r#"{{"tags":{open}{close}}}"#), 0, 1).is_none());
        assert!(tags(&format!(r#"{{"tags":["a"],"errors":{open}"#), 0, 1).is_none());
    }
}
