//! Checks how a full deployment refuses a client: `503` with `Retry-After`, a reason, and a JSON body.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wscluster_client::Endpoint;

use super::client::Entrance;

/// Longest answer that is read.
const MAX_BYTES: u64 = 64 << 10;

/// Reasons of a gateway without a slot.
const GATEWAY_REASONS: [&str; 4] = ["no_capacity", "queue_full", "timeout", FD_LIMIT];
/// Reasons of a shard without a slot.
const SHARD_REASONS: [&str; 2] = ["full", FD_LIMIT];

/// Both may lack file descriptors. The refusal is correct then, but the deployment holds less than it declares.
pub(crate) const FD_LIMIT: &str = "fd_limit";

/// The process that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A gateway.
    Gateway,
    /// A shard, reached without a gateway.
    Shard,
}

/// Sends an upgrade to `entrance` and returns the whole answer, or an error text.
pub(crate) async fn ask(entrance: &Entrance, within: Duration) -> Result<Vec<u8>, String> {
    let exchange = async {
        let Endpoint { host, path } = &entrance.endpoint;
        let mut tcp = TcpStream::connect(entrance.endpoint.address()).await?;
        let headers = entrance.headers();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{headers}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // A 101 does not end the connection, so its first line is enough.
        while !answer.starts_with(b"HTTP/1.1 101") && (answer.len() as u64) < MAX_BYTES {
            if tcp.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(within, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {within:?}")),
    }
}

/// The reason of a correct refusal, or what is wrong with it.
pub(crate) fn judge(answer: &[u8], who: Who) -> Result<String, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else {
        return Err("the answer is no complete HTTP head".into());
    };
    let status = head.code.unwrap_or(0);
    if status != 503 {
        return Err(format!("answered {status} where 503 is due"));
    }
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let retry_after = header("retry-after").ok_or("the 503 has no Retry-After")?;
    if !retry_after.parse::<u64>().is_ok_and(|seconds| seconds >= 1) {
        return Err(format!("Retry-After is {retry_after:?}, not a number of seconds of 1 or more"));
    }
    let reason = header("x-wscluster-reason").ok_or("the 503 has no X-Wscluster-Reason")?;
    let known: &[&str] = if who == Who::Gateway { &GATEWAY_REASONS } else { &SHARD_REASONS };
    if !known.contains(&reason) {
        return Err(format!("X-Wscluster-Reason is {reason:?}, not one of {}", known.join(", ")));
    }
    if who == Who::Gateway && header("x-wscluster-load").is_some() {
        return Err("the gateway leaks X-Wscluster-Load of a shard".into());
    }
    let body: Value = serde_json::from_slice(&answer[length..])
        .map_err(|error| format!("the body of the 503 is no JSON: {error}"))?;
    if body["error"].as_str().is_none_or(str::is_empty) {
        return Err(format!("the body of the 503 has no \"error\": {body}"));
    }
    Ok(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\nX-Wscluster-Reason: no_capacity\r\n\
                        Connection: close\r\n\r\n{\"error\":\"unavailable\"}";

    #[test]
    fn accepts_a_correct_refusal() {
        assert_eq!(judge(GOOD.as_bytes(), Who::Gateway), Ok("no_capacity".into()));
    }

    #[test]
    fn names_what_a_refusal_lacks() {
        for (from, to, fault) in [
            ("503 Service Unavailable", "101 Switching Protocols", "answered 101 where 503 is due"),
            ("Retry-After: 3\r\n", "", "no Retry-After"),
            ("Retry-After: 3", "Retry-After: 0", "not a number of seconds of 1 or more"),
            ("X-Wscluster-Reason: no_capacity\r\n", "", "no X-Wscluster-Reason"),
            ("no_capacity", "overloaded", "not one of no_capacity"),
            ("Connection: close", "X-Wscluster-Load: 5/5", "leaks X-Wscluster-Load"),
            ("{\"error\":\"unavailable\"}", "busy", "no JSON"),
            ("{\"error\":\"unavailable\"}", "{}", "has no \"error\""),
        ] {
            let answer = GOOD.replace(from, to);
            let found = judge(answer.as_bytes(), Who::Gateway).unwrap_err();
            assert!(found.contains(fault), "{found}");
        }
        assert!(judge(b"HTTP/1.1 503 Serv", Who::Gateway).is_err());
    }

    #[test]
    fn expects_the_reason_full_from_a_shard() {
        assert!(judge(GOOD.as_bytes(), Who::Shard).unwrap_err().contains("not one of full"));
        let full = GOOD.replace("no_capacity", "full").replace("Connection: close", "X-Wscluster-Load: 5/5");
        assert_eq!(judge(full.as_bytes(), Who::Shard), Ok("full".into()));
    }

    #[test]
    fn accepts_a_lack_of_descriptors_from_both() {
        let short = GOOD.replace("no_capacity", "fd_limit");
        for who in [Who::Gateway, Who::Shard] {
            assert_eq!(judge(short.as_bytes(), who), Ok(FD_LIMIT.into()));
        }
    }
}
