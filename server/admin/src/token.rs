//! The secret that calls to `/drain` and `/evict` carry as `Authorization: Bearer TOKEN` (RFC 6750 §2.1).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;

/// Shorter ones could be guessed.
const MIN_BYTES: usize = 32;

/// A secret. It never appears in debug output.
#[derive(Clone)]
pub struct Token(String);

/// A token could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the token in {path}: {cause}")]
pub struct TokenError {
    path: PathBuf,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it needs {MIN_BYTES} visible ASCII characters or more; `openssl rand -hex 32` writes such a token")]
    Weak,
}

impl Token {
    /// A new secret of 256 random bits.
    pub fn random() -> Self {
        let [high, low]: [u128; 2] = rand::random();
        Self(format!("{high:032x}{low:032x}"))
    }

    /// The secret in the file at `path`, without white space around it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let read = || -> Result<Self, Cause> {
            let text = std::fs::read_to_string(path)?;
            let text = text.trim();
            let is_good = text.len() >= MIN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
            if is_good { Ok(Self(text.to_owned())) } else { Err(Cause::Weak) }
        };
        read().map_err(|cause| TokenError { path: path.to_owned(), cause })
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is this secret. The time that this takes does not depend on where they differ.
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_and_refuses_what_could_be_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::random();
        std::fs::write(&path, format!("{}\n", token.reveal())).unwrap();
        let read = Token::read(&path).unwrap();
        assert!(read.is(token.reveal().as_bytes()) && !read.is(Token::random().reveal().as_bytes()));
        assert!(!read.is(b"") && !read.is(&token.reveal().as_bytes()[1..]));
        assert_eq!(format!("{read:?}"), "Token");
        for weak in ["", "secret", &"é".repeat(40)] {
            std::fs::write(&path, weak).unwrap();
            assert!(Token::read(&path).unwrap_err().to_string().contains("32 visible"), "{weak}");
        }
        assert!(Token::read(&folder.path().join("none")).unwrap_err().to_string().contains("No such file"));
    }
}
