//! Writes the reports of the last runs into the pages of `docs`, between `<!-- bench-NAME -->` and `<!-- end -->`. No
//! figure there is typed by hand.

use std::fs;

use crate::bail;
use crate::error::{Doing as _, Result};
use crate::report;

const END: &str = "<!-- end -->";

/// Rewrites the sections of the benches that have been run. Returns true.
pub fn run() -> Result<bool> {
    fill(
        "docs/benchmarks.md",
        &["gateway", "fanout", "12k", "kill9", "changes", "slow", "overload", "ancestor", "catch-up", "centrifuge"],
    )?;
    fill("docs/audit.md", &["audit"])?;
    Ok(true)
}

fn fill(page: &str, names: &[&str]) -> Result<()> {
    let mut text = fs::read_to_string(page).doing(format!("read {page} (run it from the top of the repository)"))?;
    for name in names {
        let path = report::directory()?.join(format!("{name}.md"));
        let Ok(report) = fs::read_to_string(&path) else {
            eprintln!("{name}: not run yet, section left as it is (just bench-{name})");
            continue;
        };
        let Some(new) = with_section(&text, name, report.trim_end()) else {
            bail!("{page} has no section <!-- bench-{name} --> … {END}");
        };
        text = new;
    }
    fs::write(page, text).doing(format!("write {page}"))
}

/// `text` with the section of `name` replaced; `None` if it has no such section.
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
