//! The `Range` request header for one range of bytes: RFC 9110, sections 14.1.2 and 14.2.

/// The part of a blob to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// 200 and the whole blob.
    Whole,
    /// 206 and the bytes from `first` to `last`, both included.
    Part { first: u64, last: u64 },
    /// 416: the range begins after the end.
    Unsatisfiable,
}

impl Selection {
    /// The part of `size` bytes that `header` selects.
    ///
    /// A header that cannot be parsed or has several ranges is ignored, as RFC 9110 section 14.2 allows.
    pub(super) fn of(header: &str, size: u64) -> Self {
        let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
        else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Self::Whole,
            (Some(first), _) if first >= size => Self::Unsatisfiable,
            (Some(first), Some(last)) => Self::Part { first, last: last.min(size - 1) },
            (Some(first), None) if last.is_empty() => Self::Part { first, last: size - 1 },
            (None, Some(suffix)) if first.is_empty() => match size.min(suffix) {
                0 => Self::Unsatisfiable,
                length => Self::Part { first: size - length, last: size - 1 },
            },
            _ => Self::Whole,
        }
    }
}

/// `1*DIGIT`: `str::parse` alone would accept a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::Selection::{self, *};

    #[test]
    fn a_range_inside_the_blob_is_a_part() {
        assert_eq!(Selection::of("bytes=0-0", 10), Part { first: 0, last: 0 });
        assert_eq!(Selection::of("bytes=3-6", 10), Part { first: 3, last: 6 });
        assert_eq!(Selection::of("bytes=3-", 10), Part { first: 3, last: 9 });
        assert_eq!(Selection::of("bytes=3-99", 10), Part { first: 3, last: 9 });
        assert_eq!(Selection::of("bytes=-4", 10), Part { first: 6, last: 9 });
        assert_eq!(Selection::of("bytes=-99", 10), Part { first: 0, last: 9 });
    }

    #[test]
    fn a_range_after_the_end_cannot_be_satisfied() {
        for (header, size) in
            [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)]
        {
            assert_eq!(Selection::of(header, size), Unsatisfiable, "{header} of {size}");
        }
    }

    #[test]
    fn a_header_that_is_no_single_range_is_ignored() {
        for header in
            ["", "bytes=", "bytes=-", "bytes=6-3", "bytes=1-2,4-5", "bytes=+1-2", "bytes=1-x", "lines=1-2"]
        {
            assert_eq!(Selection::of(header, 10), Whole, "{header}");
        }
    }
}
