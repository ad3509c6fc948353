#!/usr/bin/env python3
"""check.py MANIFEST…: what of a rendered chart must fit together does. Prints what does not; exit code 1 then.

Kinds that Kubernetes itself has are validated against its schemas elsewhere; here it is about names that refer to each other.
"""

import re
import sys

import yaml

CLUSTER_WIDE = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ClusterPodMonitoring", "Namespace"}

LABEL = re.compile(r"(?=.{0,63}$)([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def contains(labels, selector):
    return bool(selector) and selector.items() <= (labels or {}).items()


def problems(objects):
    """What is wrong, one text each."""
    names = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects}
    if len(names) != len(objects):
        yield "an object is there twice"
    operators = [o for o in objects if o["kind"] == "Deployment"]
    pods = [o["spec"]["template"]["metadata"]["labels"] for o in operators]
    for o in objects:
        kind, meta = o["kind"], o["metadata"]
        namespace, spec = meta.get("namespace"), o.get("spec", {})
        me = f"{kind} {meta['name']}"
        texts = [meta["name"], namespace or "", *(meta.get("annotations") or {}).values()]
        if not all(isinstance(text, str) for text in texts):
            yield f"{me} has a name or an annotation that is no text: {texts}"
        for label in (meta.get("labels") or {}).values():
            if not isinstance(label, str) or not LABEL.fullmatch(label):
                yield f"{me} has the label {label}, which Kubernetes refuses"
        if (namespace is None) != (kind in CLUSTER_WIDE):
            yield f"{me} has the namespace {namespace}"
        if kind in {"Deployment", "PodDisruptionBudget"} and not any(contains(p, spec["selector"].get("matchLabels")) for p in pods):
            yield f"{me} selects no pod"
        if kind == "Deployment":
            pod = spec["template"]["spec"]
            if ("ServiceAccount", namespace, pod["serviceAccountName"]) not in names:
                yield f"{me} runs as {pod['serviceAccountName']}, which is not there"
        if kind.endswith("Binding"):
            ref = o["roleRef"]
            if (ref["kind"], namespace if ref["kind"] == "Role" else None, ref["name"]) not in names:
                yield f"{me} binds {ref['name']}, which is not there"
            for subject in o["subjects"]:
                if ("ServiceAccount", subject["namespace"], subject["name"]) not in names:
                    yield f"{me} binds the account {subject['name']}, which is not there"
        if kind in {"Pod", "Deployment"}:
            pod = spec if kind == "Pod" else spec["template"]["spec"]
            if not pod["securityContext"]["runAsNonRoot"]:
                yield f"{me} may run as root"
            named = pod["securityContext"].keys() & {"runAsUser", "runAsGroup", "fsGroup"}
            if named:
                yield f"{me} sets {', '.join(sorted(named))}, which OpenShift refuses"
            for container in pod.get("initContainers", []) + pod["containers"]:
                if not container["securityContext"]["readOnlyRootFilesystem"]:
                    yield f"{me} may write to its root"
        yield from of_gke(o, me, names, objects)


def of_gke(o, me, names, objects):
    """Everything on the way of a client leads to the Service of the gateways, and to a port that it has."""
    spec, namespace = o.get("spec", {}), o["metadata"].get("namespace")
    clusters = {c["metadata"]["name"]: c for c in objects if c["kind"] == "WsCluster"}

    def of_service(cluster):
        # A null is the same as leaving a field out.
        return (cluster["spec"].get("gateway") or {}).get("service") or {}

    def service(name, port=None):
        cluster = clusters.get(name.removesuffix("-gateway"))
        if not name.endswith("-gateway") or not cluster or cluster["metadata"]["namespace"] != namespace:
            return f"{me} leads to the Service {name}, which no WsCluster here has"
        has = of_service(cluster).get("port") or 8080
        if port not in (None, has):
            return f"{me} leads to port {port}, the gateways have {has}"
        return None

    found = []
    if o["kind"] == "HTTPRoute":
        found += [service(b["name"], b["port"]) for rule in spec["rules"] for b in rule["backendRefs"]]
        found += [f"{me} is bound to no Gateway" for p in spec["parentRefs"] if ("Gateway", namespace, p["name"]) not in names]
    if o["kind"] == "Ingress":
        backends = [path["backend"]["service"] for rule in spec["rules"] for path in rule["http"]["paths"]]
        found += [service(b["name"], b["port"]["number"]) for b in backends]
        certificate = o["metadata"]["annotations"].get("networking.gke.io/managed-certificates")
        if certificate and ("ManagedCertificate", namespace, certificate) not in names:
            found.append(f"{me} names a certificate that is not there")
    if o["kind"] in {"GCPBackendPolicy", "HealthCheckPolicy"}:
        found.append(service(spec["targetRef"]["name"]))
    if o["kind"] == "BackendConfig":
        wanted = f'{{"default": "{o["metadata"]["name"]}"}}'
        annotations = [of_service(c).get("annotations") or {} for c in clusters.values()]
        if not any(a.get("cloud.google.com/backend-config") == wanted for a in annotations):
            found.append(f"no Service names {me}")
    return [text for text in found if text]


bad = False
for path in sys.argv[1:]:
    with open(path) as file:
        objects = [o for o in yaml.safe_load_all(file) if o]
    for text in problems(objects):
        bad = True
        print(f"{path}: {text}")
    if not objects:
        sys.exit(f"{path}: nothing is in it")
sys.exit(bad)
