//! Talking with the script that started this: a line of JSON to it, a line of text from it.

use std::io::Write as _;

use crate::Outcome;
use serde_json::Value;

/// Tells the script something, at once.
pub(crate) fn tell(line: &Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The next line of the script; `None` once it closed its end.
pub(crate) async fn line() -> Outcome<Option<String>> {
    let mut line = String::new();
    let read = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line).map(|_| line));
    let line = read.await??;
    Ok((!line.is_empty()).then(|| line.trim().to_owned()))
}
