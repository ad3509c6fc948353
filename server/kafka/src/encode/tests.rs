//! Records of every kind, good and bad.

use rdkafka::message::{Header, OwnedHeaders};
use wscluster_api::spec::RecordOptions;

use super::*;

fn mapping(channel: &str, record: RecordOptions) -> TopicMapping {
    let entry = Topic { record, ..Topic::named("odin.trades", channel) };
    TopicMapping::new("odin.trades".into(), &entry, 1_000).unwrap()
}

fn raw<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: Option<&'a OwnedHeaders>) -> Raw<'a, OwnedHeaders> {
    Raw { key, value, headers, timestamp_ms: 7 }
}

fn channel(mapping: &TopicMapping, raw: Raw<'_, OwnedHeaders>) -> Result<String, Skip> {
    let mut channel = String::new();
    mapping.channel(raw, &mut channel).map(|()| channel)
}

fn data(format: ValueFormat, value: Option<&[u8]>) -> Result<serde_json::Value, Skip> {
    let mapping = mapping("x", RecordOptions { value: format, ..RecordOptions::default() });
    let mut data = Vec::new();
    mapping.data(raw(None, value, None), &mut data)?;
    Ok(serde_json::from_slice(&[b"{", &data[..], b"}"].concat()).unwrap())
}

#[test]
fn makes_a_channel_from_key_topic_and_header() {
    let headers = OwnedHeaders::new()
        .insert(Header { key: "venue", value: Some("old") })
        .insert(Header { key: "venue", value: Some("nyse") });
    let all = mapping("{topic}/{key}.{header:venue}", RecordOptions::default());
    assert_eq!(channel(&all, raw(Some(b"BTC"), None, Some(&headers))).unwrap(), "odin.trades/BTC.nyse");
    assert_eq!(channel(&all, raw(Some(b"BTC"), None, None)), Err(Skip::NoHeader));
    assert_eq!(channel(&all, raw(None, None, Some(&headers))), Err(Skip::NoKey));
    let lenient = mapping("{key}.trade", RecordOptions { missing: Some("none".into()), ..RecordOptions::default() });
    assert_eq!(channel(&lenient, raw(None, None, None)).unwrap(), "none.trade");
}

#[test]
fn refuses_poisonous_channel_names() {
    let key = mapping("{key}", RecordOptions::default());
    for (bytes, skip) in [
        (&vec![b'x'; 65_536][..], Skip::ChannelTooLong),
        (&[b'x'; 257], Skip::ChannelTooLong),
        (&[0xff, 0xfe], Skip::KeyNotText),
        (b"", Skip::ChannelEmpty),
        (b"a\nb", Skip::ChannelControl),
    ] {
        assert_eq!(channel(&key, raw(Some(bytes), None, None)), Err(skip));
    }
    let mut headers = OwnedHeaders::new();
    headers = headers.insert(Header { key: "h", value: Some(&[0xff_u8][..]) });
    assert_eq!(
        channel(&mapping("{header:h}", RecordOptions::default()), raw(None, None, Some(&headers))),
        Err(Skip::HeaderNotText)
    );
}

#[test]
fn carries_each_kind_of_value() {
    use ValueFormat::{Auto, Binary, Json, Text};
    use serde_json::json;
    assert_eq!(data(Auto, Some(br#" {"a": [1, 2.50]} "#)).unwrap(), json!({"data": {"a": [1, 2.5]}}));
    assert_eq!(data(Auto, Some(b"17")).unwrap(), json!({"data": 17}));
    assert_eq!(data(Auto, Some("nö \"json\"\n".as_bytes())).unwrap(), json!({"data": "nö \"json\"\n"}));
    assert_eq!(data(Auto, Some(b"{\"half\":")).unwrap(), json!({"data": "{\"half\":"}));
    assert_eq!(data(Auto, Some(&[0xff, 0])).unwrap(), json!({"data_base64": "/wA="}));
    assert_eq!(
        data(Auto, Some(b"\"bad \xff utf8\"")).unwrap(),
        json!({"data_base64": STANDARD.encode(b"\"bad \xff utf8\"")})
    );
    assert_eq!(data(Auto, Some(b"")).unwrap(), json!({"data": ""}));
    assert_eq!(data(Auto, None).unwrap(), json!({"data": null}));
    assert_eq!(data(Json, Some(b"no")), Err(Skip::NotJson));
    assert_eq!(data(Text, Some(b"17")).unwrap(), json!({"data": "17"}));
    assert_eq!(data(Text, Some(&[0xff])), Err(Skip::NotText));
    assert_eq!(data(Binary, Some(b"17")).unwrap(), json!({"data_base64": "MTc="}));
    assert_eq!(data(Auto, Some(&[b'1'; 1_001])), Err(Skip::TooLarge));
}

#[test]
fn keeps_json_as_it_was_written() {
    let (mapping, mut data) = (mapping("x", RecordOptions::default()), Vec::new());
    mapping.data(raw(None, Some(br#"{"price": 1.10, "id": 12345678901234567890123}"#), None), &mut data).unwrap();
    assert_eq!(data, br#""data":{"price": 1.10, "id": 12345678901234567890123}"#);
}

#[test]
fn takes_type_and_time_from_headers_when_they_hold_them() {
    let options = RecordOptions {
        type_header: Some("t".into()),
        timestamp_header: Some("ts".into()),
        tombstones: Tombstones::Skip,
        ..RecordOptions::default()
    };
    let mapping = mapping("x", options);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "t", value: Some("price:tick") })
        .insert(Header { key: "ts", value: Some("42") });
    assert_eq!(
        (mapping.kind(raw(None, None, Some(&headers))), mapping.ts(raw(None, None, Some(&headers)))),
        ("price:tick", 42)
    );
    assert_eq!((mapping.kind(raw(None, None, None)), mapping.ts(raw(None, None, None))), ("price:update", 7));
    assert_eq!(mapping.data(raw(None, None, None), &mut Vec::new()), Err(Skip::Tombstone));
}
