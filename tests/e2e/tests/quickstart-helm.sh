# shellcheck shell=bash
# The quickstart with Helm; then `helm test`, which publishes a message and receives it through the gateways, and an upgrade to another
# version of the chart, which no client notices.
# group: install
# takes: 45
. tests/e2e/lib.sh
. tests/e2e/lib/cluster.sh
. tests/e2e/lib/clients.sh
. tests/e2e/lib/quickstart.sh
command -v helm >/dev/null || skip "helm is not in PATH"

nothing_of_ours
h() { helm --namespace "$namespace" "$@"; }
install() {
    h install e2e charts/wscluster \
        --set "image.repository=${WSCLUSTER_OPERATOR_IMAGE%:*},image.tag=${WSCLUSTER_OPERATOR_IMAGE##*:}" \
        --set "serverImage.repository=${WSCLUSTER_IMAGE%:*},serverImage.tag=${WSCLUSTER_IMAGE##*:}" \
        --set 'test.channel=HELM.trade,test.publish.enabled=true,test.publish.brokers={kafka:9092},test.publish.topic=odin.trades,test.publish.key=HELM'
}
first_message Helm install
h test e2e --timeout 60s --logs

kafka=kafka:9092 topic=odin.trades
upgrade() {
    newer_chart
    h upgrade e2e "$scratch/newer" --reuse-values --wait --timeout 120s
    settled prices
}
through "helm upgrade of the operator" prices 300 upgrade
same 0 "$(result clients-1 | jq .dropped)" "connections that the upgrade cost"
k delete wsc prices --wait
h uninstall e2e --wait --timeout 60s
