//! Role-based access control: rules, their bindings, and whether they allow a request.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::etcd::Store;
use crate::user::User;

use super::attributes::Attributes;

/// A rule of a role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether the rule allows the request.
    pub fn allows(&self, asked: &Attributes) -> bool {
        let lists = |list: &[String], wanted: &str| list.iter().any(|l| l == "*" || l == wanted);
        if !lists(&self.verbs, &asked.verb) {
            return false;
        }
        let Some(resource) = &asked.resource else {
            return self
                .non_resource_urls
                .iter()
                .any(|url| covers(url, &asked.path));
        };
        let any_of_kind = format!("*/{}", resource.subresource);
        let by_subresource =
            !resource.subresource.is_empty() && self.resources.contains(&any_of_kind);
        lists(&self.api_groups, &resource.group)
            && (by_subresource || lists(&self.resources, &asked.resource_name()))
            && (self.resource_names.is_empty() || self.resource_names.contains(&resource.name))
    }
}

/// Whether a rule's URL, which may end in `*`, covers a path.
fn covers(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => url == path,
    }
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Role {
    metadata: Metadata,
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    metadata: Metadata,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                user.name == format!("system:serviceaccount:{}:{}", self.namespace, self.name)
            }
            _ => false,
        }
    }
}

impl Binding {
    fn binds(&self, user: &User) -> bool {
        let subjects = self.subjects.iter().flatten();
        subjects.into_iter().any(|subject| subject.is(user))
    }
}

/// Checks an object of RBAC before it is stored.
///
/// # Errors The authorizer cannot read it as a role or binding.
pub fn check(kind: &str, object: &Value) -> Result<()> {
    match kind {
        "ClusterRole" | "Role" => Role::deserialize(object).map(|_| ())?,
        "ClusterRoleBinding" | "RoleBinding" => {
            let binding = Binding::deserialize(object)?;
            let role = &binding.role_ref;
            let fits = role.kind == "ClusterRole" || (kind == "RoleBinding" && role.kind == "Role");
            if !fits || role.name.is_empty() {
                bail!(
                    "roleRef: {} {:?} cannot be bound by a {kind}",
                    role.kind,
                    role.name
                );
            }
            for subject in binding.subjects.iter().flatten() {
                if !["User", "Group", "ServiceAccount"].contains(&subject.kind.as_str()) {
                    bail!("subjects: {:?} is not a kind of subject", subject.kind);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Every role and binding.
#[derive(Default)]
pub struct Policy {
    cluster_roles: Vec<Role>,
    cluster_bindings: Vec<Binding>,
    roles: Vec<Role>,
    bindings: Vec<Binding>,
}

impl Policy {
    /// Reads the roles and bindings for requests in `namespace`, or for cluster-wide ones.
    ///
    /// # Errors etcd does not answer, or has an invalid role or binding.
    pub fn read(store: &Store, namespace: &str) -> Result<Self> {
        let mut policy = Self {
            cluster_roles: stored(store, "/clusterroles/")?,
            cluster_bindings: stored(store, "/clusterrolebindings/")?,
            ..Self::default()
        };
        if !namespace.is_empty() {
            policy.roles = stored(store, &format!("/roles/{namespace}/"))?;
            policy.bindings = stored(store, &format!("/rolebindings/{namespace}/"))?;
        }
        Ok(policy)
    }

    /// A policy of cluster roles and their bindings.
    ///
    /// # Errors Invalid roles or bindings.
    #[cfg(test)]
    pub fn of(roles: &[Value], bindings: &[Value]) -> Result<Self> {
        Ok(Self {
            cluster_roles: roles
                .iter()
                .map(Role::deserialize)
                .collect::<Result<_, _>>()?,
            cluster_bindings: bindings
                .iter()
                .map(Binding::deserialize)
                .collect::<Result<_, _>>()?,
            ..Self::default()
        })
    }

    /// Whether a role that is bound to the user allows the request.
    pub fn allows(&self, user: &User, asked: &Attributes) -> bool {
        let namespace = asked.resource.as_ref().map(|resource| &resource.namespace);
        let everywhere = self.cluster_bindings.iter().map(|binding| (binding, true));
        let there = self.bindings.iter().map(|binding| (binding, false));
        everywhere
            .chain(there)
            .filter(|(binding, everywhere)| {
                let here = Some(&binding.metadata.namespace) == namespace;
                binding.binds(user) && (*everywhere || here)
            })
            .flat_map(|(binding, _)| self.rules(binding))
            .any(|rule| rule.allows(asked))
    }

    fn rules(&self, binding: &Binding) -> impl Iterator<Item = &Rule> {
        let wanted = &binding.role_ref;
        let among = if wanted.kind == "ClusterRole" {
            &self.cluster_roles
        } else {
            &self.roles
        };
        let role = among.iter().find(|role| role.metadata.name == wanted.name);
        role.and_then(|role| role.rules.as_ref())
            .into_iter()
            .flatten()
    }
}

fn stored<T: DeserializeOwned>(store: &Store, directory: &str) -> Result<Vec<T>> {
    store
        .recent(directory)?
        .iter()
        .map(|entry| serde_json::from_slice(&entry.value).context("a role or binding in etcd"))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::server::Request;

    fn rule(rule: Value) -> Rule {
        serde_json::from_value(rule).unwrap()
    }

    fn asked(method: &str, path: &str) -> Attributes {
        Attributes::of(&Request::test(method, path, ""))
    }

    #[test]
    fn a_rule_for_a_resource_is_none_for_its_subresources() {
        let nodes = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}));
        assert!(nodes.allows(&asked("GET", "/api/v1/nodes/a")));
        assert!(!nodes.allows(&asked("GET", "/api/v1/nodes/a/proxy/metrics")));
        assert!(!nodes.allows(&asked("GET", "/api/v1/nodes")));
        assert!(!nodes.allows(&asked("GET", "/apis/apps/v1/nodes/a")));
    }

    #[test]
    fn a_rule_with_names_is_for_those_objects() {
        let one = rule(json!({
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"],
        }));
        assert!(one.allows(&asked("DELETE", "/api/v1/nodes/a")));
        assert!(!one.allows(&asked("DELETE", "/api/v1/nodes/b")));
        assert!(!one.allows(&asked("GET", "/api/v1/nodes")));
    }

    #[test]
    fn urls_may_end_in_a_star() {
        let urls = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]}));
        assert!(urls.allows(&asked("GET", "/healthz")));
        assert!(urls.allows(&asked("GET", "/apis/apps")));
        assert!(!urls.allows(&asked("GET", "/healthz/etcd")));
        assert!(!urls.allows(&asked("GET", "/api/v1/nodes")));
    }

    #[test]
    fn a_binding_reaches_its_subjects_only() {
        let roles = [json!({
            "metadata": {"name": "r"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}],
        })];
        let binding = |subject: Value| {
            json!({
                "metadata": {"name": "b"}, "subjects": [subject],
                "roleRef": {"kind": "ClusterRole", "name": "r"},
            })
        };
        let user = User::authenticated("u".into(), vec!["g".into()]);
        let allows = |subject| {
            let policy = Policy::of(&roles, &[binding(subject)]).unwrap();
            policy.allows(&user, &asked("GET", "/api/v1/nodes/a"))
        };
        assert!(allows(json!({"kind": "User", "name": "u"})));
        assert!(allows(json!({"kind": "Group", "name": "g"})));
        assert!(!allows(json!({"kind": "User", "name": "g"})));
        assert!(!allows(json!({"kind": "Group", "name": "u"})));
    }

    #[test]
    fn broken_bindings_are_refused() {
        let binding = |role: &str, subject: &str| {
            json!({
                "metadata": {"name": "b"}, "subjects": [{"kind": subject, "name": "x"}],
                "roleRef": {"kind": role, "name": "r"},
            })
        };
        check("RoleBinding", &binding("Role", "User")).unwrap();
        assert!(check("ClusterRoleBinding", &binding("Role", "User")).is_err());
        assert!(check("ClusterRoleBinding", &binding("ClusterRole", "Users")).is_err());
        assert!(
            check(
                "ClusterRole",
                &json!({"metadata": {"name": "x"}, "rules": 1})
            )
            .is_err()
        );
    }
}
