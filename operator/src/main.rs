//! `wscluster-operator`: for now it prints the custom resource definition.

use kube::CustomResourceExt as _;
use wscluster_api::WsCluster;

fn main() {
    let crd = serde_yaml::to_string(&WsCluster::crd()).expect("a definition made of plain data serializes");
    print!("{crd}");
}
