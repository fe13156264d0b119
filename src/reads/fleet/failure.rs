//! Why an engine did not do what it was asked to.
//!
//! A description never quotes what the engine has sent, except the code of an error: the engine may quote the password or
//! the value that it was sent.

use std::io;

use redis::{ErrorKind, RedisError, ServerError};

/// Why an engine did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The engine cannot be used now: it is away, slow, or not the master any more.
    Away(String),
    /// The engine refuses writes, because its memory or disk is full. It still reads.
    Full(String),
    /// The engine does not know the script.
    NoScript,
    /// The engine refuses this command.
    Refused(String),
    /// Too much is under way to or from the engine already.
    Busy,
}

impl Failure {
    /// What an error reply means.
    pub(super) fn of_reply(error: &ServerError) -> Self {
        let code = error.code();
        let described = format!("the engine returned {}", printable(code));
        match code {
            // Redis 6 wraps an error that a script meets.
            "ERR" if error.details().is_some_and(|text| text.contains("-OOM ")) => {
                Self::Full("the engine returned OOM".to_owned())
            }
            // MISCONF: the last snapshot failed. NOREPLICAS: min-replicas-to-write.
            "OOM" | "MISCONF" | "NOREPLICAS" => Self::Full(described),
            "NOSCRIPT" => Self::NoScript,
            "READONLY" | "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "LOADING" | "BUSY"
            | "NOAUTH" | "WRONGPASS" => Self::Away(described),
            _ => Self::Refused(described),
        }
    }

    /// What an error of the connection means.
    pub(super) fn of_connection(error: &RedisError) -> Self {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        Self::Away(match (source, error.kind()) {
            (Some(error), _) => describe_io(error),
            (None, ErrorKind::Parse) => "the engine's reply is not a Redis reply".to_owned(),
            (None, _) => "the connection was closed".to_owned(),
        })
    }

    /// The description.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Away(text) | Self::Full(text) | Self::Refused(text) => text,
            Self::NoScript => "the engine does not keep scripts".to_owned(),
            Self::Busy => "too much is under way".to_owned(),
        }
    }
}

/// Describes an error of a socket, of TLS, or of the limits on replies. None of them quotes what was received.
pub(super) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::UnexpectedEof => "the engine closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// The code of an error, without what a terminal would interpret.
fn printable(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn of(reply: &str) -> Failure {
        match redis::parse_redis_value(reply.as_bytes()).unwrap() {
            redis::Value::ServerError(error) => Failure::of_reply(&error),
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_code_decides_and_the_text_is_not_quoted() {
        let away = |code: &str| Failure::Away(format!("the engine returned {code}"));
        assert_eq!(of("-READONLY You can't write against a read only replica.\r\n"), away("READONLY"));
        assert_eq!(of("-MOVED 3999 canary:6381\r\n"), away("MOVED"));
        assert_eq!(of("-WRONGPASS canary\r\n"), away("WRONGPASS"));
        assert!(matches!(of("-OOM command not allowed\r\n"), Failure::Full(_)));
        assert!(matches!(of("-ERR Error running script: -OOM command not allowed\r\n"), Failure::Full(_)));
        assert_eq!(of("-NOSCRIPT No matching script.\r\n"), Failure::NoScript);
        assert_eq!(of("-ERR canary\r\n"), Failure::Refused("the engine returned ERR".to_owned()));
        let long = of(&format!("-\x1b[31m{}\r\n", "A".repeat(1000))).into_text();
        assert!(long.len() < 60 && !long.contains('\x1b'), "{long}");
    }
}
