// Helm for the tests: helm.go says why there is no main here.
module wscluster.dev/tests/cluster/helm

go 1.26.0

require helm.sh/helm/v3 v3.22.0
