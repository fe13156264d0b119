//! Secrets as files hold them.

use secrecy::SecretString;

/// Reads a file that holds one secret on one line. A trailing line break, which editors add, is not part of the secret.
pub(crate) fn from_file(bytes: &[u8]) -> Result<SecretString, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text".to_owned())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.contains(['\r', '\n', '\0']) {
        return Err("holds more than one line".to_owned());
    }
    Ok(text.into())
}
