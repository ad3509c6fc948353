//! Classifies calls to the API server by verb and kind, for metrics.
//!
//! Both come from fixed sets, so that no path can create a new time series.

use hyper::{Method, StatusCode, Uri};

/// A call to the API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    /// A verb of Kubernetes' authorization: `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub(crate) verb: &'static str,
    /// Plural of the kind, with its subresource; `other` for unknown kinds.
    pub(crate) kind: &'static str,
    /// Namespace, if the path contains one.
    pub(crate) namespace: Option<String>,
}

const KINDS: [&str; 15] = [
    "wsclusters",
    "wsclusters/status",
    "statefulsets",
    "deployments",
    "services",
    "serviceaccounts",
    "configmaps",
    "roles",
    "rolebindings",
    "poddisruptionbudgets",
    "networkpolicies",
    "pods",
    "events",
    "leases",
    "namespaces",
];

impl Call {
    /// Parses a path such as `/apis/apps/v1/namespaces/shop/statefulsets/prices`.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        match parts.next() {
            Some("api") => drop(parts.next()),
            Some("apis") => drop((parts.next(), parts.next())),
            _ => {}
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (kind, named) = match rest {
            [kind, _, sub, ..] => (format!("{kind}/{sub}"), true),
            [kind, _] => ((*kind).to_owned(), true),
            [kind] => ((*kind).to_owned(), false),
            [] => (String::new(), false),
        };
        let query = uri.query().unwrap_or_default();
        let verb = match method.as_str() {
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ if query.split('&').any(|part| part == "watch=true") => "watch",
            _ if named => "get",
            _ => "list",
        };
        let kind = KINDS.into_iter().find(|known| *known == kind).unwrap_or("other");
        Self { verb, kind, namespace }
    }

    /// Whether it changes an object.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.verb, "create" | "update" | "patch" | "delete")
    }
}

/// The label of a successful answer.
pub(crate) const OK: &str = "ok";

/// The label of a status code: codes with a meaning of their own for a controller, and the class of all others.
pub(crate) fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => OK,
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        410 => "gone",
        422 => "invalid",
        429 => "throttled",
        400..=499 => "client_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_verb_kind_and_namespace() {
        for (method, path, verb, kind, namespace) in [
            ("GET", "/apis/wscluster.dev/v1alpha1/wsclusters?limit=500", "list", "wsclusters", None),
            (
                "GET",
                "/apis/apps/v1/namespaces/shop/statefulsets?watch=true&timeoutSeconds=290",
                "watch",
                "statefulsets",
                Some("shop"),
            ),
            (
                "PATCH",
                "/apis/wscluster.dev/v1alpha1/namespaces/shop/wsclusters/prices/status?fieldManager=x",
                "patch",
                "wsclusters/status",
                Some("shop"),
            ),
            ("DELETE", "/api/v1/namespaces/shop/pods/prices-0", "delete", "pods", Some("shop")),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/ops/leases/wscluster-operator",
                "update",
                "leases",
                Some("ops"),
            ),
            ("GET", "/api/v1/namespaces/shop", "get", "namespaces", None),
            ("GET", "/version", "list", "other", None),
            ("POST", "/api/v1/namespaces/shop/secrets", "create", "other", Some("shop")),
        ] {
            let call = Call::of(&method.parse().unwrap(), &path.parse().unwrap());
            assert_eq!((call.verb, call.kind, call.namespace.as_deref()), (verb, kind, namespace), "{method} {path}");
        }
    }

    #[test]
    fn distinguishes_writes_from_reads() {
        for (method, writes) in [("GET", false), ("POST", true), ("PUT", true), ("PATCH", true), ("DELETE", true)] {
            assert_eq!(Call::of(&method.parse().unwrap(), &"/api/v1/pods".parse().unwrap()).writes(), writes);
        }
    }
}
