//! The id that callers and operators know a call by: the caller's own, or one that is made.

use tonic::metadata::{Ascii, MetadataValue};

/// The longest id that is taken from a caller. It is in every line of the call and in its status, which has little room.
const MAX_BYTES: usize = 128;

/// The caller's id if it is one to 128 visible ASCII characters, else a new one: 128 random bits.
pub(super) fn of(given: Option<&MetadataValue<Ascii>>) -> MetadataValue<Ascii> {
    let is_id = |id: &&MetadataValue<Ascii>| {
        let bytes = id.as_encoded_bytes();
        (1..=MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    given.filter(is_id).cloned().unwrap_or_else(new)
}

fn new() -> MetadataValue<Ascii> {
    // Hexadecimal digits are always valid.
    format!("{:032x}", rand::random::<u128>()).parse().unwrap_or_else(|_| MetadataValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_visible_characters_is_kept_and_any_other_replaced() {
        let of_text = |text: &str| {
            let given = MetadataValue::try_from(text).ok();
            of(given.as_ref()).to_str().map(ToOwned::to_owned).unwrap_or_default()
        };
        let longest = "x".repeat(MAX_BYTES);
        for id in ["7", "req-1/2:3", &longest] {
            assert_eq!(of_text(id), id);
        }
        for other in ["", "with a space", "tab\there", &"x".repeat(MAX_BYTES + 1), "naïve"] {
            let made = of_text(other);
            assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{other}: {made}");
        }
        assert_ne!(of(None), of(None));
    }
}
