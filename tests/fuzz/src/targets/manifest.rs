//! Manifest files.

use std::path::Path;

use wscluster_api::manifest::{ManifestError, parse};

/// An accepted manifest is accepted again when it is written with its defaults; a rejection names what is wrong.
pub fn manifest(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let path = Path::new("fuzz.yaml");
    match parse(text, path) {
        Ok(cluster) => {
            // JSON is YAML.
            let written = serde_json::to_string(&cluster).expect("a manifest that cannot be written");
            let again = parse(&written, path).unwrap_or_else(|error| panic!("{error}\n{written}"));
            let again = serde_json::to_string(&again).expect("a manifest that cannot be written");
            assert_eq!(again, written, "changes when it is written and read");
        }
        Err(error) => {
            if let ManifestError::Invalid { violations, .. } = &error {
                assert!(!violations.is_empty());
            }
            assert!(error.to_string().contains("fuzz.yaml"), "{error}");
        }
    }
}
