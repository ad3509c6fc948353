//! The `CustomResourceDefinition` as it is installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::WsCluster;

/// The definition of `WsCluster`.
pub fn definition() -> CustomResourceDefinition {
    WsCluster::crd()
}
