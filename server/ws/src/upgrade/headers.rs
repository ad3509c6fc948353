//! The fields of a head that was already found to be well formed: an iterator over its bytes, no copy, no table.

/// One field. The value has no surrounding white space and may hold bytes above 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'b> {
    /// As it was sent; compare with [`Header::is`].
    pub name: &'b str,
    /// As it was sent, trimmed.
    pub value: &'b [u8],
    /// The whole line as it was sent, with CRLF: what a proxy passes on.
    pub line: &'b [u8],
}

impl Header<'_> {
    /// Whether this is field `name`; names have no case (RFC 9110 §5.1).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields in the order they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'b> {
    /// Lines, each `name: value CRLF`, without the empty line at the end.
    lines: &'b [u8],
}

impl<'b> Headers<'b> {
    /// `lines` must have been accepted by the tokenizer, and hold no bare LF.
    pub(super) const fn new(lines: &'b [u8]) -> Self {
        Self { lines }
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = Header<'b>> + use<'b> {
        self.lines.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = str::from_utf8(&line[..colon]).ok()?;
            Some(Header { name, value: line[colon + 1..].trim_ascii(), line })
        })
    }

    /// The first field `name`, where it is readable ASCII.
    pub fn get(&self, name: &str) -> Option<&'b str> {
        self.iter().find(|header| header.is(name)).and_then(|header| ascii(header.value))
    }

    /// The elements of list field `name`, over all lines of that name (RFC 9110 §5.6.1).
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b str> + use<'b, 'n> {
        self.iter().filter(move |header| header.is(name)).flat_map(|header| list(header.value))
    }

    /// Whether list field `name` has element `token`, whatever its case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token))
    }
}

/// The non-empty elements of one line of a list field.
pub fn list(value: &[u8]) -> impl Iterator<Item = &str> {
    value.split(|byte| *byte == b',').filter_map(|element| ascii(element.trim_ascii())).filter(|text| !text.is_empty())
}

pub(super) fn ascii(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.is_ascii())
}
