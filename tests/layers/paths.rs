//! The paths that a Rust source names, in `use` trees and anywhere in the code. This is no parser of the language, which
//! would not see into macros: it skips comments, strings and characters, and splits the rest into words and signs.

/// A path and where it begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    /// Whether it leads into this crate. If so, `crate`, `self` and `super` are already resolved.
    pub(crate) is_ours: bool,
    pub(crate) segments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Sign(char),
}

/// All paths of the file that is `module`.
pub(crate) fn of(module: &[String], text: &str) -> Vec<Named> {
    let tokens = tokens(text);
    let mut named = Vec::new();
    // Inline modules that are open here, each with the braces that were open before it.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut at, mut braces) = (0, 0);
    while let Some((token, line)) = tokens.get(at) {
        match token {
            Token::Sign('{') => {
                if let (Some(Token::Word(keyword)), Some(Token::Word(name))) =
                    (before(&tokens, at, 2), before(&tokens, at, 1))
                    && keyword == "mod"
                {
                    inline.push((name.clone(), braces));
                }
                braces += 1;
            }
            Token::Sign('}') => {
                braces = usize::saturating_sub(braces, 1);
                inline.pop_if(|(_, outside)| *outside == braces);
            }
            _ => {}
        }
        if !begins_path(&tokens, at) {
            at += 1;
            continue;
        }
        let (mut paths, mut end) = (Vec::new(), at);
        tree(&tokens, &mut end, &mut Vec::new(), &mut paths);
        let here: Vec<String> =
            module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect();
        named.extend(paths.into_iter().map(|path| resolve(&here, path, *line)));
        at = end.max(at + 1);
    }
    named
}

fn before(tokens: &[(Token, usize)], at: usize, steps: usize) -> Option<&Token> {
    at.checked_sub(steps).and_then(|at| tokens.get(at)).map(|(token, _)| token)
}

/// Whether a path begins at this token: what follows `use` or `extern crate`, and a word before `::`.
fn begins_path(tokens: &[(Token, usize)], at: usize) -> bool {
    let token = |at| tokens.get(at).map(|(token, _): &(Token, usize)| token);
    let keyword = matches!(before(tokens, at, 1), Some(Token::Word(word)) if word == "use")
        || matches!((before(tokens, at, 2), before(tokens, at, 1)),
            (Some(Token::Word(first)), Some(Token::Word(second))) if first == "extern" && second == "crate");
    if keyword {
        return true;
    }
    let continues = matches!(
        (before(tokens, at, 2), before(tokens, at, 1)),
        (Some(Token::Word(_) | Token::Sign('>')), Some(Token::Colons)) | (_, Some(Token::Sign('.')))
    );
    !continues && matches!(token(at), Some(Token::Word(_))) && token(at + 1) == Some(&Token::Colons)
}

/// Reads a path that may branch, from `at` to after its end.
fn tree(tokens: &[(Token, usize)], at: &mut usize, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    let length = path.len();
    loop {
        match tokens.get(*at).map(|(token, _)| token) {
            Some(Token::Colons) => *at += 1,
            Some(Token::Word(word)) => {
                path.push(word.clone());
                *at += 1;
                if tokens.get(*at).map(|(token, _)| token) != Some(&Token::Colons) {
                    break;
                }
            }
            Some(Token::Sign('{')) => {
                *at += 1;
                while let Some((token, _)) = tokens.get(*at) {
                    match token {
                        Token::Sign('}') => break,
                        Token::Sign(_) => *at += 1,
                        Token::Word(word) if word == "as" => *at += 2,
                        Token::Word(_) | Token::Colons => tree(tokens, at, path, paths),
                    }
                }
                *at += 1;
                path.truncate(length);
                return;
            }
            // `*`, or the type parameters of an expression.
            _ => break,
        }
    }
    paths.push(path.clone());
    path.truncate(length);
}

fn resolve(here: &[String], path: Vec<String>, line: usize) -> Named {
    let mut module = here.to_vec();
    let mut rest = path.as_slice();
    let mut is_ours = false;
    while let Some((first, after)) = rest.split_first() {
        match first.as_str() {
            "crate" | "rexd" if !is_ours => module.clear(),
            "self" => {}
            "super" => drop(module.pop()),
            _ => break,
        }
        (is_ours, rest) = (true, after);
    }
    let segments = if is_ours { module.into_iter().chain(rest.iter().cloned()).collect() } else { path };
    Named { line, is_ours, segments }
}

fn tokens(text: &str) -> Vec<(Token, usize)> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if first == '"' {
            string(rest)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if rest.starts_with("::") {
            tokens.push((Token::Colons, line));
            2
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push((Token::Word(rest[..length].to_owned()), line));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push((Token::Sign(first), line));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// Block comments nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, and with a `b` before it; `None` for anything else.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let content = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(text.len() - content.len() + length)
}

/// A character, or the apostrophe of a lifetime.
fn character(text: &str) -> usize {
    let mut after = text.char_indices().skip(1);
    match (after.next(), after.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let from = at + c.len_utf8();
            from + text[from..].find('\'').map_or(0, |end| end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}
