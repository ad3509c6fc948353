# shellcheck shell=bash
# State and logs to explain a failed start. Prints to stderr, never fails.

# Programs that ended, with their last lines; running ones, with their last errors (klog marks them with E).
diagnose_node() {
    local name
    [[ -n $init ]] || return 0
    for name in "${services[@]}"; do
        [[ -e $logs/$name.log ]] || continue
        if [[ -z $(service_pid "$name") ]]; then
            say "--- $name does not run; its last lines ($logs/$name.log):"
            tail -n 15 "$logs/$name.log" >&2
        elif grep -q '^E[0-9]' "$logs/$name.log"; then
            say "--- $name runs; its last errors ($logs/$name.log):"
            grep '^E[0-9]' "$logs/$name.log" | tail -n 4 >&2
        fi
    done
}

# Pods that are not ready, their events and logs. For one namespace, or all.
diagnose_pods() {
    local where=(--all-namespaces) namespace pod
    [[ -n $init ]] || return 0
    [[ -z ${1:-} ]] || where=(--namespace "$1")
    {
        kubectl --request-timeout=5s get --raw /readyz >/dev/null || return 0
        echo "--- nodes and pods:"
        kubectl get nodes
        kubectl get pods "${where[@]}" -o wide
        echo "--- last events:"
        kubectl get events "${where[@]}" --sort-by=.lastTimestamp | tail -n 15
        kubectl get pods "${where[@]}" --no-headers -o jsonpath='{range .items[?(@.status.containerStatuses[*].ready!=true)]}{.metadata.namespace}{" "}{.metadata.name}{"\n"}{end}' |
            head -n 5 | while read -r namespace pod; do
            echo "--- pod $namespace/$pod:"
            kubectl logs --namespace "$namespace" "$pod" --all-containers --tail=15 --prefix
            kubectl logs --namespace "$namespace" "$pod" --all-containers --tail=15 --prefix --previous 2>/dev/null
        done
    } >&2 || true
}
