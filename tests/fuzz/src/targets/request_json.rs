//! The JSON of a client's request.

use serde::de::IgnoredAny;
use wscluster_protocol::request::{Command, MAX_CHANNEL_BYTES, Since, parse};

/// An accepted request keeps the rules of the protocol; a rejection names its remedy and repeats only an id.
pub fn request_json(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let is_id = |id: &serde_json::Value| id.is_string() || id.is_number();
    match parse(text) {
        Ok(request) => {
            assert!(serde_json::from_str::<IgnoredAny>(text).is_ok(), "not JSON");
            assert!(request.id.iter().all(is_id));
            assert!(Command::TYPES.contains(&request.command.as_str()));
            match &request.command {
                Command::Subscribe(channels) => {
                    check_names(channels.iter().map(|(name, _)| name.as_str()));
                    for (_, since) in channels {
                        if let Since::At(positions) = since {
                            assert!(!positions.is_empty() && positions.iter().all(|position| position.offset >= 0));
                        }
                    }
                }
                Command::Unsubscribe(channels) => check_names(channels.iter().map(String::as_str)),
                Command::Heartbeat => {}
                Command::Reconnect(offsets) => assert!(offsets.values().all(|offset| *offset >= -1)),
            }
        }
        Err(rejection) => {
            assert!(rejection.id.iter().all(is_id));
            assert!(!rejection.message.is_empty() && !rejection.code.as_str().is_empty());
        }
    }
}

fn check_names<'n>(names: impl Iterator<Item = &'n str>) {
    let mut names: Vec<&str> = names.collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a channel is named twice");
    assert!(names.iter().all(|name| (1..=MAX_CHANNEL_BYTES).contains(&name.len())));
}
