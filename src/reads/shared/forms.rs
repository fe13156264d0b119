//! The form of what is in the engine. Whoever can write to the engine may have written it, so every part is checked.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    client::{ETag, Listing, Page, PageToken},
    error::{At, Missing, RexError},
    oci::{Digest, Reference, Repository, Tag},
    reads::documents::{BlobState, PageState, State},
};

/// The longest media type (RFC 6838 section 4.2 allows 127 characters on each side of the slash).
const MAX_MEDIA_TYPE: usize = 255;

/// The longest name of what was not found.
const MAX_NAME: usize = 1024;

/// The most entries of a page.
const MAX_ENTRIES: usize = 1000;

/// What a registry said, and how old that was when it was put into the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Aged<T> {
    age_ms: u64,
    said: T,
}

/// Something, or that it is absent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said<T> {
    Present(T),
    Absent(Absence),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Absence {
    what: AbsentThing,
    name: String,
    http_status: Option<u16>,
    oci_code: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AbsentThing {
    Repository,
    Manifest,
    Blob,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestForm {
    digest: String,
    media_type: String,
    etag: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlobForm {
    media_type: String,
    size: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageForm {
    entries: Vec<String>,
    next: Option<String>,
}

pub(super) fn write_state(state: &State, age: Duration) -> Vec<u8> {
    let said = match state {
        State::Present { digest, media_type, etag } => Said::Present(ManifestForm {
            digest: digest.as_str().to_owned(),
            media_type: media_type.to_string(),
            etag: etag.as_ref().and_then(ETag::as_str).map(ToOwned::to_owned),
        }),
        State::Absent(error) => absent(error),
    };
    write(said, age)
}

/// A digest names itself, whatever the engine says.
pub(super) fn read_state(value: &[u8], reference: &Reference, at: At) -> Option<(State, Duration)> {
    read(value, at, State::Absent, |form: ManifestForm| {
        let digest = form.digest.parse::<Digest>().ok()?;
        if matches!(reference, Reference::Digest(wanted) if *wanted != digest) {
            return None;
        }
        Some(State::Present {
            digest,
            media_type: media_type(form.media_type)?,
            etag: form.etag.and_then(|etag| ETag::from_text(&etag)),
        })
    })
}

pub(super) fn write_blob(state: &BlobState, age: Duration) -> Vec<u8> {
    let said = match state {
        BlobState::Present { media_type, size } => {
            Said::Present(BlobForm { media_type: media_type.to_string(), size: *size })
        }
        BlobState::Absent(error) => absent(error),
    };
    write(said, age)
}

pub(super) fn read_blob(value: &[u8], at: At) -> Option<(BlobState, Duration)> {
    read(value, at, BlobState::Absent, |form: BlobForm| {
        Some(BlobState::Present { media_type: media_type(form.media_type)?, size: form.size })
    })
}

pub(super) fn write_page(state: &PageState, age: Duration) -> Vec<u8> {
    let said = match state {
        PageState::Present { page, .. } => Said::Present(PageForm {
            entries: page.entries.clone(),
            next: page.next.as_ref().map(PageToken::encode),
        }),
        PageState::Absent(error) => absent(error),
    };
    write(said, age)
}

/// The version of the page stays with the replica that fetched it.
pub(super) fn read_page(value: &[u8], at: At, listing: &Listing) -> Option<(PageState, Duration)> {
    read(value, at, PageState::Absent, |form: PageForm| {
        let is_entry: fn(&String) -> bool = match listing {
            Listing::Catalog(_) => |name| name.parse::<Repository>().is_ok(),
            Listing::Tags(_) => |name| name.parse::<Tag>().is_ok(),
        };
        let is_page = form.entries.len() <= MAX_ENTRIES && form.entries.iter().all(is_entry);
        let next = form.next.map(|next| PageToken::decode(&next, listing)).transpose().ok()?;
        let page = is_page.then(|| Arc::new(Page { entries: form.entries, next }))?;
        Some(PageState::Present { page, version: None })
    })
}

/// The content of a digest: the length of its media type, the media type, the bytes.
pub(super) fn write_content(media_type: &str, content: &[u8]) -> Option<Bytes> {
    let mut value = BytesMut::with_capacity(1 + media_type.len() + content.len());
    value.put_u8(u8::try_from(media_type.len()).ok()?);
    value.put_slice(media_type.as_bytes());
    value.put_slice(content);
    Some(value.freeze())
}

pub(super) fn read_content(mut value: Bytes) -> Option<(Arc<str>, Bytes)> {
    let length = usize::from(*value.first()?);
    let text = value.get(1..=length)?.to_vec();
    let media_type = media_type(String::from_utf8(text).ok()?)?;
    Some((media_type, value.split_off(1 + length)))
}

fn write<T: Serialize>(said: Said<T>, age: Duration) -> Vec<u8> {
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    // Texts and numbers always serialize.
    serde_json::to_vec(&Aged { age_ms, said }).unwrap_or_default()
}

fn read<F: DeserializeOwned, T>(
    value: &[u8],
    at: At,
    absent: impl Fn(Arc<RexError>) -> T,
    present: impl Fn(F) -> Option<T>,
) -> Option<(T, Duration)> {
    let Aged { age_ms, said } = serde_json::from_slice::<Aged<Said<F>>>(value).ok()?;
    let state = match said {
        Said::Present(form) => present(form)?,
        Said::Absent(absence) => absent(Arc::new(absence.into_error(at)?)),
    };
    Some((state, Duration::from_millis(age_ms)))
}

fn absent<T>(error: &RexError) -> Said<T> {
    let (what, name, http_status, oci_code) = match error {
        RexError::NotFound { at, missing, name } => {
            let what = match missing {
                Missing::Repository => AbsentThing::Repository,
                Missing::Manifest => AbsentThing::Manifest,
                Missing::Blob => AbsentThing::Blob,
            };
            (what, name.clone(), at.http_status, at.oci_code.clone())
        }
        // Only what was not found is kept as absent.
        _ => (AbsentThing::Manifest, String::new(), None, None),
    };
    Said::Absent(Absence { what, name, http_status, oci_code })
}

impl Absence {
    fn into_error(self, at: At) -> Option<RexError> {
        let is_code = |code: &String| {
            (1..=64).contains(&code.len())
                && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !is_name(&self.name) {
            return None;
        }
        let missing = match self.what {
            AbsentThing::Repository => Missing::Repository,
            AbsentThing::Manifest => Missing::Manifest,
            AbsentThing::Blob => Missing::Blob,
        };
        let at = At { http_status: self.http_status, oci_code: self.oci_code.filter(is_code), ..at };
        Some(RexError::NotFound { at, missing, name: self.name })
    }
}

fn media_type(text: String) -> Option<Arc<str>> {
    let is_type =
        (1..=MAX_MEDIA_TYPE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_type.then(|| text.into())
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}
