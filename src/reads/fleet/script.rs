//! Scripts: what the engine does in one step.

use std::sync::LazyLock;

use redis::{Cmd, cmd};

/// A script in Lua.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: LazyLock<String>,
}

/// Makes a script. A macro, because a closure in a static captures nothing.
macro_rules! script {
    ($text:expr) => {
        $crate::reads::fleet::script::Script::new($text, || $crate::reads::fleet::script::hash($text))
    };
}
pub(super) use script;

impl Script {
    pub(super) const fn new(text: &'static str, hash: fn() -> String) -> Self {
        Self { text, hash: LazyLock::new(hash) }
    }

    /// The command that runs the script if the engine knows its text.
    pub(super) fn by_hash(&self, keys: &[&str], arguments: &[&str]) -> Cmd {
        command("EVALSHA", &self.hash, keys, arguments)
    }

    /// The command that runs the script, and lets the engine keep its text.
    pub(super) fn by_text(&self, keys: &[&str], arguments: &[&str]) -> Cmd {
        command("EVAL", self.text, keys, arguments)
    }
}

fn command(name: &str, script: &str, keys: &[&str], arguments: &[&str]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}

/// The name that the engine gives a script.
pub(super) fn hash(text: &str) -> String {
    redis::Script::new(text).get_hash().to_owned()
}
