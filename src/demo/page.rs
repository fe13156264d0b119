//! Pages of the catalog and of tag lists: `n`, `last` and the `Link` header of RFC 8288, as [distribution-spec,
//! "Listing Tags"] defines them.
//!
//! [distribution-spec, "Listing Tags"]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags

use url::form_urlencoded;

/// The largest and the default number of names on a page. It is small, so that a client that does not follow `Link` fails.
/// The specification allows a registry to return fewer names than requested.
const MAX_NAMES: usize = 100;

/// The names that a client requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    limit: usize,
    last: String,
}

/// `n` is not a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidPageSize;

/// The names of one page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<'a> {
    pub(super) names: Vec<&'a str>,
    /// The query of the next page, if there is one.
    pub(super) next: Option<String>,
}

impl PageRequest {
    /// Parses the query of a URL. Unknown keys are ignored.
    pub(super) fn from_query(query: &str) -> Result<Self, InvalidPageSize> {
        let mut request = Self { limit: MAX_NAMES, last: String::new() };
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "n" => request.limit = value.parse::<usize>().map_err(|_| InvalidPageSize)?.min(MAX_NAMES),
                "last" => request.last = value.into_owned(),
                _ => {}
            }
        }
        Ok(request)
    }

    /// Cuts the page out of `names`, which must be in lexical order.
    ///
    /// `last` need not be one of the names: the page begins after its place in the order.
    pub(super) fn cut<'a>(&self, names: impl Iterator<Item = &'a str>) -> Page<'a> {
        let mut rest = names.skip_while(|name| *name <= self.last.as_str());
        let names: Vec<&str> = rest.by_ref().take(self.limit).collect();
        // An empty page (n=0) has no last name, so there is no next page.
        let next = names.last().filter(|_| rest.next().is_some()).map(|last| {
            form_urlencoded::Serializer::new(String::new())
                .append_pair("n", &self.limit.to_string())
                .append_pair("last", last)
                .finish()
        });
        Page { names, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["a", "b/c", "d", "e"];

    fn page(query: &str) -> Option<(Vec<&'static str>, Option<String>)> {
        let page = PageRequest::from_query(query).ok()?.cut(NAMES.into_iter());
        Some((page.names, page.next))
    }

    #[test]
    fn a_full_page_leads_to_the_one_after_its_last_name() {
        assert_eq!(page("n=2"), Some((vec!["a", "b/c"], Some("n=2&last=b%2Fc".to_owned()))));
        assert_eq!(page("n=2&last=b%2Fc"), Some((vec!["d", "e"], None)));
    }

    #[test]
    fn last_need_not_be_a_name() {
        assert_eq!(page("last=c"), Some((vec!["d", "e"], None)));
        assert_eq!(page("last=z"), Some((vec![], None)));
    }

    #[test]
    fn a_page_of_no_names_leads_nowhere() {
        assert_eq!(page("n=0"), Some((vec![], None)));
    }

    #[test]
    fn a_page_size_that_is_no_number_is_refused() {
        assert_eq!(page("n=-1"), None);
        assert_eq!(page("n="), None);
    }
}
