//! The source of each value, and the JSON Pointers (RFC 6901) that name values until they have a type.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

/// The source that set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source set the value.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A command-line flag, as typed: `--listen`.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(&one_line(&path.display().to_string())),
            Self::Environment(name) => write!(f, "environment variable {}", one_line(name)),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The origin of every value that a source set, by the value's JSON Pointer. A list has one origin as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// The origin of exactly this value. [`Origin::Default`] if no source set it.
    pub fn of(&self, pointer: &str) -> &Origin {
        self.0.get(pointer).unwrap_or(&Origin::Default)
    }

    /// The origin to report with a finding at `pointer`, which may be a map, an entry of a list or a missing key: the
    /// origin of the value itself, of a value in it, or else of the nearest value around it.
    pub(super) fn nearest_origin(&self, pointer: &str) -> &Origin {
        let mut nearest = pointer;
        while !nearest.is_empty() {
            let set = self.0.get(nearest).or_else(|| {
                let below = format!("{nearest}/");
                let (key, origin) =
                    self.0.range::<str, _>((Bound::Included(&*below), Bound::Unbounded)).next()?;
                key.starts_with(&below).then_some(origin)
            });
            if let Some(origin) = set {
                return origin;
            }
            nearest = nearest.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        &Origin::Default
    }

    pub(super) fn set(&mut self, pointer: &str, origin: &Origin) {
        self.0.insert(pointer.to_owned(), origin.clone());
    }

    /// Forgets the value at `pointer` and everything in it.
    pub(super) fn forget(&mut self, pointer: &str) {
        self.0.retain(|key, _| !is_at_or_below(key, pointer));
    }
}

/// The pointer of the member `segment` of the map at `parent`.
pub(super) fn member(parent: &str, segment: &str) -> String {
    format!("{parent}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// The unescaped segments of a pointer.
pub(super) fn segments(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"))
}

pub(super) fn is_at_or_below(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pointer in the form in which operators write keys and `yq` reads them: `registries."ghcr.io".url`.
pub(super) fn dotted(pointer: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    segments(pointer)
        .map(|segment| match segment.is_empty() || !segment.chars().all(plain) {
            true => format!("{segment:?}"),
            false => segment,
        })
        .collect::<Vec<_>>()
        .join(".")
}

/// Text from outside, escaped so that it stays on one line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
