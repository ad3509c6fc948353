//! Puts the reports of the last runs into `docs/benchmarks.md`, between `<!-- bench-NAME -->` and `<!-- end -->`, so that
//! no figure there was ever typed by hand.

use std::fs;

use crate::bail;
use crate::error::{Doing as _, Result};
use crate::report;

const PATH: &str = "docs/benchmarks.md";
const END: &str = "<!-- end -->";

/// Rewrites the sections whose bench has been run; tells that all went well.
pub fn run() -> Result<bool> {
    let mut text = fs::read_to_string(PATH).doing(format!("read {PATH} (run it from the top of the repository)"))?;
    for name in ["gateway", "fanout", "12k", "kill9", "ancestor"] {
        let path = report::directory()?.join(format!("{name}.md"));
        let Ok(report) = fs::read_to_string(&path) else {
            eprintln!("{name}: not run yet, section left as it is (just bench-{name})");
            continue;
        };
        let Some(new) = with_section(&text, name, report.trim_end()) else {
            bail!("{PATH} has no section <!-- bench-{name} --> … {END}");
        };
        text = new;
    }
    fs::write(PATH, text).doing(format!("write {PATH}"))?;
    Ok(true)
}

/// `text` with the section of `name` replaced; `None` where it has none.
fn with_section(text: &str, name: &str, section: &str) -> Option<String> {
    let mark = format!("<!-- bench-{name} -->\n");
    let (before, rest) = text.split_once(&mark)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{mark}{section}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_one_section_and_leaves_the_rest() {
        let text = "a\n<!-- bench-x -->\nold\n<!-- end -->\nb\n<!-- bench-y -->\nold\n<!-- end -->\n";
        let new = with_section(text, "x", "new").unwrap();
        assert_eq!(new, text.replacen("old", "new", 1));
        assert_eq!(with_section(text, "z", "new"), None);
    }
}
