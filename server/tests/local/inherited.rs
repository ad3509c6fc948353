//! Environment variables that are not meant for the children.

use wscluster_admin::client::get_json;

use crate::run::{DEADLINE, Run, manifest, wscluster};

#[tokio::test]
async fn children_ignore_argument_variables_of_the_environment() {
    let mut command = wscluster();
    command.env("WSCLUSTER_DISCOVER", "default/prices-shards").env("WSCLUSTER_INCARNATION", "same");
    let run = Run::start_with(command, &manifest(1, 10, ""), &[]);
    let admin = run.ready["shards"][0]["admin"].as_str().unwrap();
    let health = get_json(admin, "/health", DEADLINE).await.unwrap();
    assert_ne!(health["incarnation"], "same", "gateways could not detect its restart");
}
