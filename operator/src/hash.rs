//! Short hashes of built objects: they name revisions and detect whether an object is the one that was applied last.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The first `digits` hexadecimal digits of the SHA-256 of `bytes`.
pub(crate) fn hex(bytes: &[u8], digits: usize) -> String {
    let mut text = Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    });
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_a_prefix_of_sha256() {
        // FIPS 180-4, the example "abc".
        assert_eq!(super::hex(b"abc", 10), "ba7816bf8f");
    }
}
