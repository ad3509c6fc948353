//go:build tools

// Package helm pins the Helm that the tests install charts with; the command
// itself is helm.sh/helm/v3/cmd/helm, built from this module's go.sum.
package helm

import _ "helm.sh/helm/v3/cmd/helm"
