//! Communication with the script that started this process: it gets lines of JSON, and sends lines of text.

use std::io::Write as _;

use crate::Outcome;
use serde_json::Value;

/// Sends a line to the script, without buffering.
pub(crate) fn write_line(line: &Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// The next line from the script; `None` once it closed its end.
pub(crate) async fn read_line() -> Outcome<Option<String>> {
    let mut line = String::new();
    let read = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line).map(|_| line));
    let line = read.await??;
    Ok((!line.is_empty()).then(|| line.trim().to_owned()))
}
