//! The problem of a pod, from its status, in words that stay the same while nothing changes.
//!
//! The kubelet alternates between reasons (`ErrImagePull`, `ImagePullBackOff`) and counts seconds in messages. With
//! those, the status of a cluster would be written again and again.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::build::Part;

/// The problem of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodProblem {
    pub(crate) kind: ProblemKind,
    /// The end of a sentence that starts with the name of the pod.
    pub(crate) message: String,
    /// Whether the process of the shard or gateway is not running.
    pub(crate) is_down: bool,
}

/// The kind of a problem, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// The image cannot be pulled.
    Image,
    /// A Secret or `ConfigMap` is missing, or the container cannot be created.
    Container,
    /// The process crashes repeatedly.
    Crash,
    /// No node fits.
    Unschedulable,
    /// The pod was evicted or failed as a whole.
    Failed,
}

/// The problem of a pod of `part`, if it has one. Only the container of the part determines whether its process runs.
pub(super) fn of(pod: &Pod, part: Part) -> Option<PodProblem> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        let message = status.message.as_deref().unwrap_or("no message").trim_end_matches('.');
        return Some(PodProblem {
            kind: ProblemKind::Failed,
            message: format!("failed ({reason}): {message}"),
            is_down: true,
        });
    }
    let mut conditions = status.conditions.iter().flatten();
    if let Some(unscheduled) = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")
        && unscheduled.reason.as_deref() == Some("Unschedulable")
    {
        let why = unscheduled.message.as_deref().unwrap_or("no message").trim_end_matches('.');
        let message = format!("cannot be scheduled: {why}");
        return Some(PodProblem { kind: ProblemKind::Unschedulable, message, is_down: false });
    }
    let name = part.to_string();
    let (own, beside): (Vec<_>, Vec<_>) =
        status.container_statuses.iter().flatten().partition(|status| status.name == name);
    let other = |status: &ContainerStatus| {
        let problem = container(status)?;
        let message = format!("has a problem in container {:?}: {}", status.name, problem.message);
        Some(PodProblem { message, is_down: false, ..problem })
    };
    own.into_iter().find_map(container).or_else(|| beside.into_iter().find_map(other))
}

fn container(status: &ContainerStatus) -> Option<PodProblem> {
    let state = status.state.as_ref()?;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let said = waiting.message.as_deref().unwrap_or_default();
        match reason {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable" => {
                // The message of a back-off contains the original error.
                let why = said.rsplit_once("ErrImagePull: ").map_or(said, |(_, why)| why);
                let message = match why {
                    "" => format!("cannot pull image {:?}", status.image),
                    why if why.starts_with("Back-off") => format!("cannot pull image {:?}", status.image),
                    why => format!("cannot pull image {:?}: {}", status.image, short(why)),
                };
                return Some(PodProblem { kind: ProblemKind::Image, message, is_down: true });
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let message = format!("cannot create its container ({reason}): {}", short(said));
                return Some(PodProblem { kind: ProblemKind::Container, message, is_down: true });
            }
            _ => {}
        }
    }
    if status.ready {
        return None;
    }
    let ended = |state: Option<&ContainerState>| state.and_then(|state| state.terminated.clone());
    let last = ended(Some(state)).or_else(|| ended(status.last_state.as_ref()))?;
    let why = match last.reason.as_deref() {
        Some(reason) if !matches!(reason, "Error" | "Completed") => format!(", {reason}"),
        _ => String::new(),
    };
    let message = format!("crashed (exit code {}{why}), {} restarts", last.exit_code, status.restart_count);
    Some(PodProblem { kind: ProblemKind::Crash, message, is_down: state.running.is_none() })
}

/// The first line, truncated to 300 characters.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "a literal reads better than a reference to one")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn problem(status: Value) -> Option<PodProblem> {
        of(&serde_json::from_value(json!({ "metadata": {}, "status": status })).unwrap(), Part::Shard)
    }

    fn container(state: Value, more: Value) -> Value {
        let mut status = json!({ "name": "shard", "image": "shop/none:1", "imageID": "", "ready": false, "restartCount": 0, "state": state });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "containerStatuses": [status] })
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(json!({ "waiting": { "reason": reason, "message": message } }), json!({}))
    }

    #[test]
    fn a_pod_that_starts_or_serves_has_no_problem() {
        assert_eq!(problem(json!({})), None);
        assert_eq!(problem(waiting("ContainerCreating", "")), None);
        assert_eq!(problem(container(json!({ "running": {} }), json!({}))), None);
        let came_back = json!({ "ready": true, "restartCount": 3, "lastState": { "terminated": { "exitCode": 1 } } });
        assert_eq!(problem(container(json!({ "running": {} }), came_back)), None);
    }

    #[test]
    fn a_problem_of_a_sidecar_is_reported_but_the_process_is_not_down() {
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        let last = json!({ "restartCount": 3, "lastState": { "terminated": { "exitCode": 1 } } });
        let mut status = container(waits, last);
        status["containerStatuses"][0]["name"] = json!("proxy");
        let beside = problem(status.clone()).unwrap();
        assert_eq!(beside.message, "has a problem in container \"proxy\": crashed (exit code 1), 3 restarts");
        assert_eq!((beside.kind, beside.is_down), (ProblemKind::Crash, false));
        let own = container(json!({ "waiting": { "reason": "ErrImagePull" } }), json!({}));
        status["containerStatuses"]
            .as_array_mut()
            .unwrap()
            .extend(own["containerStatuses"].as_array().unwrap().clone());
        let own = problem(status).unwrap();
        assert_eq!((own.kind, own.is_down), (ProblemKind::Image, true), "its own container comes first");
    }

    #[test]
    fn a_missing_image_has_the_same_message_all_along() {
        let error = "failed to pull and unpack image \"docker.io/shop/none:1\": not found";
        let first = problem(waiting("ErrImagePull", error)).unwrap();
        let back_off = format!("Back-off pulling image \"shop/none:1\": ErrImagePull: {error}");
        assert_eq!(problem(waiting("ImagePullBackOff", &back_off)).unwrap(), first);
        assert_eq!((first.kind, first.is_down), (ProblemKind::Image, true));
        assert_eq!(first.message, format!("cannot pull image \"shop/none:1\": {error}"));
        let old = problem(waiting("ImagePullBackOff", "Back-off pulling image \"shop/none:1\"")).unwrap();
        assert_eq!(old.message, "cannot pull image \"shop/none:1\"");
    }

    #[test]
    fn a_crash_loop_has_the_same_message_while_it_waits_and_while_it_runs() {
        let last =
            json!({ "restartCount": 3, "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } });
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s restarting" } });
        let waits = problem(container(waits, last.clone())).unwrap();
        let runs = problem(container(json!({ "running": {} }), last)).unwrap();
        assert_eq!(waits.message, "crashed (exit code 137, OOMKilled), 3 restarts");
        assert_eq!((waits.is_down, runs.is_down), (true, false));
        assert_eq!(runs.message, waits.message);
        let ended =
            problem(container(json!({ "terminated": { "exitCode": 1, "reason": "Error" } }), json!({}))).unwrap();
        assert_eq!(ended.message, "crashed (exit code 1), 0 restarts");
    }

    #[test]
    fn reports_why_a_pod_cannot_run() {
        let missing = problem(waiting("CreateContainerConfigError", "secret \"kafka\" not found")).unwrap();
        assert_eq!(
            missing.message,
            "cannot create its container (CreateContainerConfigError): secret \"kafka\" not found"
        );
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory." });
        let unscheduled = problem(json!({ "phase": "Pending", "conditions": [condition] })).unwrap();
        assert_eq!(unscheduled.message, "cannot be scheduled: 0/1 nodes are available: 1 Insufficient memory");
        assert_eq!((unscheduled.kind, unscheduled.is_down), (ProblemKind::Unschedulable, false));
        let evicted =
            problem(json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }));
        assert_eq!(evicted.unwrap().message, "failed (Evicted): The node was low on memory");
    }
}
