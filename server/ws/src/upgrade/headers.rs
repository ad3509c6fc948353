//! The fields of a well-formed head: an iterator over its bytes, without copies or a table.

/// One field. The value has no surrounding white space and may contain bytes above 127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'b> {
    /// The name as sent; compare with [`Header::is`].
    pub name: &'b str,
    /// The value as sent, trimmed.
    pub value: &'b [u8],
    /// The whole line as sent, with CRLF: what a proxy forwards.
    pub line: &'b [u8],
}

impl Header<'_> {
    /// Whether this is field `name`, ignoring case (RFC 9110 §5.1).
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// All fields, in the order sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'b> {
    /// Lines, each `name: value CRLF`, without the empty line at the end.
    lines: &'b [u8],
}

impl<'b> Headers<'b> {
    /// `lines` must be accepted by the tokenizer, and contain no bare LF.
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

    /// The value of the first field `name`, if it is ASCII.
    pub fn get(&self, name: &str) -> Option<&'b str> {
        self.iter().find(|header| header.is(name)).and_then(|header| ascii(header.value))
    }

    /// The elements of list field `name`, over all lines of that name (RFC 9110 §5.6.1).
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b str> + use<'b, 'n> {
        self.iter().filter(move |header| header.is(name)).flat_map(|header| list(header.value))
    }

    /// Whether list field `name` has element `token`, ignoring case.
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
