//! Platforms, and the choice of an index entry for one, by the rules of containerd's platforms package.

use std::{fmt, str::FromStr};

use oci_spec::image::{Arch, Descriptor, Os};

use super::ParseError;

/// An operating system, an architecture and an optional variant, normalised as in containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl Platform {
    fn normalised(os: &str, architecture: &str, variant: &str) -> Self {
        let (os, architecture, variant) =
            (os.to_ascii_lowercase(), architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let os = if os == "macos" { "darwin".to_owned() } else { os };
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("i386" | "i686", _) => ("386", ""),
            ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// The best entry of an index for this platform, or `None` if no entry runs on it.
    ///
    /// The platforms of `runs` are tried in order. Of several entries for the same platform, the first is returned.
    #[must_use]
    pub fn pick<'a>(&self, entries: &'a [Descriptor]) -> Option<&'a Descriptor> {
        self.runs().iter().find_map(|candidate| {
            entries.iter().find(|entry| {
                entry.platform().as_ref().is_some_and(|platform| Self::from_spec(platform) == *candidate)
            })
        })
    }

    fn from_spec(platform: &oci_spec::image::Platform) -> Self {
        let (os, architecture): (&Os, &Arch) = (platform.os(), platform.architecture());
        let variant = platform.variant().as_deref().unwrap_or_default();
        Self::normalised(&os.to_string(), &architecture.to_string(), variant)
    }

    /// The platforms whose images run on this one, best first: itself, its older variants, then its 32-bit architecture.
    fn runs(&self) -> Vec<Self> {
        let like = |architecture: &str, variant: &str| Self::normalised(&self.os, architecture, variant);
        let older = |architecture: &str, newest: u8, oldest: u8| {
            (oldest..=newest).rev().map(|v| like(architecture, &format!("v{v}"))).collect::<Vec<_>>()
        };
        let version =
            self.variant.strip_prefix('v').and_then(|v| v.split('.').next()).and_then(|v| v.parse().ok());
        let mut runs = vec![self.clone()];
        match (self.architecture.as_str(), version) {
            ("amd64", version) => {
                runs.extend(older("amd64", version.unwrap_or(1u8).min(4), 1));
                runs.push(like("386", ""));
            }
            ("arm64", version) => {
                runs.extend(older("arm64", version.unwrap_or(8).min(9), 8));
                runs.extend(older("arm", 8, 5));
            }
            ("arm", Some(version)) => runs.extend(older("arm", version.min(8), 5)),
            _ => {}
        }
        runs
    }
}

impl FromStr for Platform {
    type Err = ParseError;

    /// `os/architecture[/variant]`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        const FORM: ParseError = ParseError("is not os/architecture[/variant], for example linux/arm64/v8");
        let is_part = |part: &str| {
            (1..=32).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture] if is_part(os) && is_part(architecture) => {
                Ok(Self::normalised(os, architecture, ""))
            }
            [os, architecture, variant] if is_part(os) && is_part(architecture) && is_part(variant) => {
                Ok(Self::normalised(os, architecture, variant))
            }
            _ => Err(FORM),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}
