# shellcheck shell=bash
# The certificates of the cluster and its kubeconfigs. New with every start, valid for a week, P-256.
# https://kubernetes.io/docs/setup/best-practices/certificates/ lists them.

pki=$state/pki

new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 7 -sha256)

# authority FILE NAME
authority() {
    openssl req -x509 "${new_key[@]}" -keyout "$pki/$1.key" -out "$pki/$1.crt" -subj "/CN=$2" \
        -addext keyUsage=critical,digitalSignature,keyCertSign,cRLSign 2>/dev/null
}

# certificate FILE AUTHORITY SUBJECT USAGES [ALTERNATIVE-NAMES]
certificate() {
    local names=()
    [[ -z ${5:-} ]] || names=(-addext "subjectAltName=$5")
    openssl req -x509 "${new_key[@]}" -keyout "$pki/$1.key" -out "$pki/$1.crt" -subj "$3" \
        -CA "$pki/$2.crt" -CAkey "$pki/$2.key" "${names[@]}" \
        -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
        -addext "extendedKeyUsage=$4" 2>/dev/null
}

# kubeconfig FILE CERTIFICATE: with the keys in the file, so that it works from any folder.
kubeconfig() {
    cat >"$1" <<EOF
apiVersion: v1
kind: Config
clusters:
  - name: $rig
    cluster:
      server: https://$node_ip:6443
      certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
  - name: $2
    user:
      client-certificate-data: $(base64 -w0 "$pki/$2.crt")
      client-key-data: $(base64 -w0 "$pki/$2.key")
contexts:
  - { name: $rig, context: { cluster: $rig, user: $2 } }
current-context: $rig
EOF
}

make_pki() {
    mkdir -p "$pki"
    chmod 700 "$pki"
    authority ca kubernetes-ca
    authority etcd-ca etcd-ca
    authority front-proxy-ca front-proxy-ca

    local here_only="DNS:localhost,IP:127.0.0.1" api
    api="DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.$domain"
    certificate etcd etcd-ca /CN=etcd serverAuth,clientAuth "$here_only"
    certificate apiserver-etcd-client etcd-ca /CN=kube-apiserver-etcd-client clientAuth
    certificate apiserver ca /CN=kube-apiserver serverAuth "$api,$here_only,IP:$node_ip,IP:$api_ip"
    certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
    certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
    certificate controllers ca /CN=system:kube-controller-manager serverAuth,clientAuth "$here_only"
    certificate scheduler ca /CN=system:kube-scheduler serverAuth,clientAuth "$here_only"
    certificate proxy ca /CN=system:kube-proxy clientAuth
    certificate kubelet ca "/O=system:nodes/CN=system:node:$node" serverAuth,clientAuth "DNS:$node,$here_only,IP:$node_ip"
    certificate admin ca /O=system:masters/CN=kubernetes-admin clientAuth

    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/sa.key" 2>/dev/null
    openssl pkey -in "$pki/sa.key" -pubout -out "$pki/sa.pub"

    local who
    for who in controllers scheduler proxy kubelet; do kubeconfig "$pki/$who.kubeconfig" "$who"; done
    kubeconfig "$state/kubeconfig" admin
}
