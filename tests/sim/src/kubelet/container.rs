//! The configuration of a pod's containers in docker.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::settings::Settings;
use super::{environment, files, volumes};

/// The labels by which the kubelet finds its containers.
pub const UID: &str = "io.kubernetes.pod.uid";
/// The label with the pod's name.
pub const POD: &str = "io.kubernetes.pod.name";
/// The label with the pod's namespace.
pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label with the container's name.
pub const NAME: &str = "io.kubernetes.container.name";
/// The label with the number of earlier starts.
pub const RESTARTS: &str = "annotation.io.kubernetes.container.restartCount";
/// The name of the container that holds a pod's network.
pub const SANDBOX: &str = "POD";

/// The labels of a pod's container.
pub fn labels(pod: &Value, container: &str, restarts: u64) -> Value {
    let metadata = &pod["metadata"];
    let kind = if container == SANDBOX {
        "podsandbox"
    } else {
        "container"
    };
    json!({
        UID: metadata["uid"], POD: metadata["name"], NAMESPACE: metadata["namespace"],
        NAME: container, RESTARTS: restarts.to_string(), "io.kubernetes.docker.type": kind,
    })
}

/// The name of a pod's container in docker.
pub fn name(pod: &Value, container: &str, attempt: u64) -> String {
    let text = |member: &str| pod["metadata"][member].as_str().unwrap_or_default();
    format!(
        "k8s_{container}_{}_{}_{}_{attempt}",
        text("name"),
        text("namespace"),
        text("uid")
    )
}

/// A container to create, in a pod whose network exists.
pub struct Making<'a> {
    /// The settings of pods.
    pub settings: &'a Settings,
    /// The pod.
    pub pod: &'a Value,
    /// The container in the pod.
    pub container: &'a Value,
    /// The container that holds the pod's network.
    pub sandbox: &'a str,
    /// The pod's address.
    pub ip: &'a str,
    /// The number of earlier starts.
    pub restarts: u64,
}

impl Making<'_> {
    /// The configuration from which docker creates the container.
    ///
    /// # Errors Volumes or variables whose source is missing.
    pub fn settings(&self) -> Result<Value> {
        let (pod, container) = (self.pod, self.container);
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let volumes = volumes::prepare(self.settings, pod, uid)?;
        let all = environment::of(self.settings, pod, self.ip, container)?;
        let words = |member: &str| {
            let words = container[member]
                .as_array()
                .filter(|words| !words.is_empty())?;
            let words = words.iter().map(|word| word.as_str().unwrap_or_default());
            Some(
                words
                    .map(|word| environment::expand(word, &all))
                    .collect::<Vec<_>>(),
            )
        };
        let name = container["name"].as_str().unwrap_or_default();
        let context = &container["securityContext"];
        let user = &context["runAsUser"];
        let user = user
            .as_u64()
            .or(pod["spec"]["securityContext"]["runAsUser"].as_u64());
        let host_pid = pod["spec"]["hostPID"] == true;
        let variables = all.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(json!({
            "Image": container["image"],
            "Entrypoint": words("command"), "Cmd": words("args"),
            "Env": variables.collect::<Vec<_>>(),
            "WorkingDir": container["workingDir"],
            "User": user.map(|user| user.to_string()).unwrap_or_default(),
            "Labels": labels(pod, name, self.restarts),
            "HostConfig": {
                "NetworkMode": format!("container:{}", self.sandbox),
                "PidMode": if host_pid { "host" } else { "" },
                "Binds": self.binds(&volumes, uid)?,
                "Privileged": context["privileged"] == true,
                "CapAdd": context["capabilities"]["add"],
                "CapDrop": context["capabilities"]["drop"],
                "ReadonlyRootfs": context["readOnlyRootFilesystem"] == true,
                "SecurityOpt": ["seccomp=unconfined"],
            },
        }))
    }

    fn binds(&self, volumes: &HashMap<String, PathBuf>, uid: &str) -> Result<Vec<String>> {
        let mut binds = Vec::new();
        let mounts = self.container["volumeMounts"].as_array();
        let mounts: Vec<&Value> = mounts.into_iter().flatten().collect();
        for mount in &mounts {
            let text = |member: &str| mount[member].as_str().unwrap_or_default();
            let source = volumes
                .get(text("name"))
                .with_context(|| format!("no volume is named {:?}", text("name")))?;
            let source = match text("subPath") {
                "" => source.clone(),
                below => source.join(below),
            };
            let mode = if mount["readOnly"] == true { ":ro" } else { "" };
            binds.push(format!("{}:{}{mode}", source.display(), text("mountPath")));
        }
        for (path, at) in files::write(self.settings, self.pod, uid, self.ip)? {
            if !mounts.iter().any(|mount| mount["mountPath"] == at) {
                binds.push(format!("{}:{at}", path.display()));
            }
        }
        Ok(binds)
    }
}
