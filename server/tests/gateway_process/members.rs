//! The sources of the list of shards: a file, or Kubernetes.

use super::*;

/// A fake API server with one `EndpointSlice`, whose watch has no events.
fn api_server(shard: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let port = |at: usize| shard.split([':', ',']).nth(at).unwrap().parse::<u16>().unwrap();
    let list = json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": { "resourceVersion": "1" },
        "items": [{
            "metadata": { "name": "prices-shards-x" }, "addressType": "IPv4",
            "endpoints": [{ "addresses": ["127.0.0.1"], "targetRef": { "kind": "Pod", "name": "prices-0" } }],
            "ports": [{ "name": "ws", "port": port(1) }, { "name": "admin", "port": port(3) }],
        }],
    })
    .to_string();
    thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut buf = [0; 4_096];
            let n = stream.read(&mut buf).unwrap_or(0);
            if String::from_utf8_lossy(&buf[..n]).contains("watch=true") {
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                open.push(stream);
            } else {
                let length = list.len();
                let _ =
                    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{list}");
            }
        }
    });
    format!("http://{addr}")
}

#[test]
fn discovers_shards_with_a_kubeconfig() {
    let shard = shard();
    let mut kubeconfig = NamedTempFile::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{ "name": "u", "user": {} }],
        "clusters": [{ "name": "c", "cluster": { "server": api_server(&shard) } }],
        "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
    });
    write!(kubeconfig, "{config}").unwrap();
    let file = impatient();
    let mut command = gateway(&file, &["--listen", "127.0.0.1:0", "--discover", "default/prices-shards"]);
    command.env("KUBECONFIG", kubeconfig.path());
    let running = Running::start(command);
    echoes(&mut running.tunnel());
    let health = running.get("/health");
    assert!(
        health.contains("\"id\":\"prices-0\"") && health.contains("\"service\":\"default/prices-shards\""),
        "{health}"
    );
    assert!(running.get("/metrics").contains("wscluster_gateway_discovery_members 1\n"));
}

#[test]
fn reports_that_no_api_server_is_configured() {
    let file = impatient();
    let mut command = gateway(&file, &["--listen", "127.0.0.1:0", "--discover", "default/prices-shards"]);
    command.env("KUBECONFIG", "/nonexistent").env_remove("KUBERNETES_SERVICE_HOST");
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(1) && stderr.contains("set KUBECONFIG"), "{stderr}");
}

#[test]
fn follows_edits_of_the_members_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("members");
    let name = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    name("");
    let members = file.to_str().unwrap();
    let running =
        Running::start(gateway(&impatient(), &["--listen", "127.0.0.1:0", "--workers", "1", "--members", members]));
    let (_, head) = running.upgrade();
    assert!(head.contains("X-Wscluster-Reason: no_shard"), "{head}");

    name(&shard());
    let mut tunnel = running.tunnel();
    name("");
    let began = Instant::now();
    while !running.get("/health").contains("\"shards\":[]") {
        assert!(began.elapsed() < PATIENCE, "the shard stays in the table");
    }
    echoes(&mut tunnel);
}
