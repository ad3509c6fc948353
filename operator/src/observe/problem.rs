//! What ails a pod, from its status: in few words that stay the same while nothing changes.
//!
//! The kubelet's own words alternate (`ErrImagePull`, `ImagePullBackOff`) and count seconds; a status made of them would be written
//! again and again.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use crate::build::Part;

/// What ails a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Of which kind.
    pub ailment: Ailment,
    /// The rest of a sentence that begins with the pod's name.
    pub message: String,
    /// Its process does not run.
    pub is_down: bool,
}

/// The kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ailment {
    /// The image cannot be had.
    Image,
    /// A Secret or `ConfigMap` is missing, or the container cannot be made.
    Container,
    /// The process ends again and again.
    Crash,
    /// No node takes it.
    Unschedulable,
    /// It was evicted or failed as a whole.
    Failed,
}

/// What ails `pod` of a `part`, if anything does. Only the part's own container says whether its process runs.
pub(super) fn of(pod: &Pod, part: Part) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() == Some("Failed") {
        let reason = status.reason.as_deref().unwrap_or("Failed");
        let message = status.message.as_deref().unwrap_or("no message").trim_end_matches('.');
        return Some(Trouble {
            ailment: Ailment::Failed,
            message: format!("failed ({reason}): {message}"),
            is_down: true,
        });
    }
    let mut conditions = status.conditions.iter().flatten();
    if let Some(unscheduled) = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")
        && unscheduled.reason.as_deref() == Some("Unschedulable")
    {
        let why = unscheduled.message.as_deref().unwrap_or("no message").trim_end_matches('.');
        let message = format!("finds no node: {why}");
        return Some(Trouble { ailment: Ailment::Unschedulable, message, is_down: false });
    }
    let name = part.to_string();
    let (own, beside): (Vec<_>, Vec<_>) =
        status.container_statuses.iter().flatten().partition(|status| status.name == name);
    let other = |status: &ContainerStatus| {
        let trouble = container(status)?;
        let message = format!("has a container {:?} that {}", status.name, trouble.message);
        Some(Trouble { message, is_down: false, ..trouble })
    };
    own.into_iter().find_map(container).or_else(|| beside.into_iter().find_map(other))
}

fn container(status: &ContainerStatus) -> Option<Trouble> {
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
                // A back-off repeats the error it backs off from.
                let why = said.rsplit_once("ErrImagePull: ").map_or(said, |(_, why)| why);
                let message = match why {
                    "" => format!("cannot have the image {:?}", status.image),
                    why if why.starts_with("Back-off") => format!("cannot have the image {:?}", status.image),
                    why => format!("cannot have the image {:?}: {}", status.image, short(why)),
                };
                return Some(Trouble { ailment: Ailment::Image, message, is_down: true });
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let message = format!("cannot be made ({reason}): {}", short(said));
                return Some(Trouble { ailment: Ailment::Container, message, is_down: true });
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
    Some(Trouble { ailment: Ailment::Crash, message, is_down: state.running.is_none() })
}

/// The first line, without what makes it long.
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

    fn trouble(status: Value) -> Option<Trouble> {
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
    fn a_pod_that_starts_or_serves_has_none() {
        assert_eq!(trouble(json!({})), None);
        assert_eq!(trouble(waiting("ContainerCreating", "")), None);
        assert_eq!(trouble(container(json!({ "running": {} }), json!({}))), None);
        let came_back = json!({ "ready": true, "restartCount": 3, "lastState": { "terminated": { "exitCode": 1 } } });
        assert_eq!(trouble(container(json!({ "running": {} }), came_back)), None);
    }

    #[test]
    fn a_container_beside_it_is_told_and_does_not_say_that_the_process_is_down() {
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        let last = json!({ "restartCount": 3, "lastState": { "terminated": { "exitCode": 1 } } });
        let mut status = container(waits, last);
        status["containerStatuses"][0]["name"] = json!("proxy");
        let beside = trouble(status.clone()).unwrap();
        assert_eq!(beside.message, "has a container \"proxy\" that crashed (exit code 1), 3 restarts");
        assert_eq!((beside.ailment, beside.is_down), (Ailment::Crash, false));
        let own = container(json!({ "waiting": { "reason": "ErrImagePull" } }), json!({}));
        status["containerStatuses"]
            .as_array_mut()
            .unwrap()
            .extend(own["containerStatuses"].as_array().unwrap().clone());
        let own = trouble(status).unwrap();
        assert_eq!((own.ailment, own.is_down), (Ailment::Image, true), "its own goes before");
    }

    #[test]
    fn an_image_that_does_not_exist_is_told_in_the_same_words_all_along() {
        let error = "failed to pull and unpack image \"docker.io/shop/none:1\": not found";
        let first = trouble(waiting("ErrImagePull", error)).unwrap();
        let back_off = format!("Back-off pulling image \"shop/none:1\": ErrImagePull: {error}");
        assert_eq!(trouble(waiting("ImagePullBackOff", &back_off)).unwrap(), first);
        assert_eq!((first.ailment, first.is_down), (Ailment::Image, true));
        assert_eq!(first.message, format!("cannot have the image \"shop/none:1\": {error}"));
        let old = trouble(waiting("ImagePullBackOff", "Back-off pulling image \"shop/none:1\"")).unwrap();
        assert_eq!(old.message, "cannot have the image \"shop/none:1\"");
    }

    #[test]
    fn a_crash_loop_is_told_by_its_exit_code_while_it_waits_and_while_it_runs() {
        let last =
            json!({ "restartCount": 3, "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } } });
        let waits = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 40s restarting" } });
        let waits = trouble(container(waits, last.clone())).unwrap();
        let runs = trouble(container(json!({ "running": {} }), last)).unwrap();
        assert_eq!(waits.message, "crashed (exit code 137, OOMKilled), 3 restarts");
        assert_eq!((waits.is_down, runs.is_down), (true, false));
        assert_eq!(runs.message, waits.message);
        let ended =
            trouble(container(json!({ "terminated": { "exitCode": 1, "reason": "Error" } }), json!({}))).unwrap();
        assert_eq!(ended.message, "crashed (exit code 1), 0 restarts");
    }

    #[test]
    fn tells_what_kubernetes_says_of_a_pod_that_cannot_run() {
        let missing = trouble(waiting("CreateContainerConfigError", "secret \"kafka\" not found")).unwrap();
        assert_eq!(missing.message, "cannot be made (CreateContainerConfigError): secret \"kafka\" not found");
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient memory." });
        let unscheduled = trouble(json!({ "phase": "Pending", "conditions": [condition] })).unwrap();
        assert_eq!(unscheduled.message, "finds no node: 0/1 nodes are available: 1 Insufficient memory");
        assert_eq!((unscheduled.ailment, unscheduled.is_down), (Ailment::Unschedulable, false));
        let evicted =
            trouble(json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." }));
        assert_eq!(evicted.unwrap().message, "failed (Evicted): The node was low on memory");
    }
}
