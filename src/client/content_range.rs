//! `Content-Range` (RFC 9110 section 14.4): which bytes a 206 holds, and the size that a 416 names.

/// The longest valid one: `bytes `, three numbers of 20 digits, two separators.
const MAX_BYTES: usize = 80;

/// A parsed `Content-Range` in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The first and the last byte; `None` in a 416.
    pub(super) bytes: Option<(u64, u64)>,
    /// The size of the whole, where it is known.
    pub(super) size: Option<u64>,
}

impl ContentRange {
    /// Parses the header's value; `None` if it is malformed or contradicts itself.
    pub(super) fn parse(value: &str) -> Option<Self> {
        if value.len() > MAX_BYTES {
            return None;
        }
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, size) = rest.trim().split_once('/')?;
        let size = if size == "*" { None } else { Some(number(size)?) };
        let bytes = if range == "*" {
            None
        } else {
            let (first, last) = range.split_once('-')?;
            Some((number(first)?, number(last)?))
        };
        let consistent = match (bytes, size) {
            (Some((first, last)), size) => first <= last && size.is_none_or(|size| last < size),
            (None, size) => size.is_some(),
        };
        (unit.eq_ignore_ascii_case("bytes") && consistent).then_some(Self { bytes, size })
    }
}

/// Digits only: `parse` alone would accept a sign.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_range_is_refused() {
        let range = |bytes, size| Some(ContentRange { bytes, size });
        assert_eq!(ContentRange::parse("bytes 0-9/10"), range(Some((0, 9)), Some(10)));
        assert_eq!(ContentRange::parse("Bytes 5-5/*"), range(Some((5, 5)), None));
        assert_eq!(ContentRange::parse("bytes */10"), range(None, Some(10)));
        let long = format!("bytes 0-1/{}", "1".repeat(90));
        for wrong in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "bytes */*",
            "items 0-9/10",
            "bytes -5/10",
            "bytes 0-/10",
            "bytes +1-2/10",
            "bytes 0-99999999999999999999/*",
            &long,
        ] {
            assert_eq!(ContentRange::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_parsed_range_is_consistent(text in "(bytes )?[0-9*/ -]{0,40}|.{0,60}") {
            if let Some(ContentRange { bytes, size }) = ContentRange::parse(&text) {
                proptest::prop_assert!(bytes.is_none_or(|(first, last)| first <= last && size.is_none_or(|size| last < size)));
            }
        }
    }
}
