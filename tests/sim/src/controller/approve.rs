//! The controller `csrapproving`: approves requests for kubelets' client certificates, if the API
//! says that the sender may have them.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::csr::{CLIENT_USAGES, Request, has_condition};

use super::api::put;

/// The subresources for the right to a certificate, and the message of an approval for each.
const SELF: (&str, &str) = (
    "selfnodeclient",
    "Auto approving self kubelet client certificate after SubjectAccessReview.",
);
const OTHER: (&str, &str) = (
    "nodeclient",
    "Auto approving kubelet client certificate after SubjectAccessReview.",
);

/// Approves a request, if it is one of those and its sender may have the certificate.
///
/// # Errors A request that cannot be read, or whose sender may not have the certificate.
pub fn handle(api: &Client, object: &Value) -> Result<()> {
    let decided = ["Approved", "Denied"]
        .iter()
        .any(|kind| has_condition(object, kind));
    if decided || object["status"]["certificate"].is_string() {
        return Ok(());
    }
    let tried = rights(object)?;
    for (right, message) in &tried {
        if may(api, object, right)? {
            return approve(api, object, message);
        }
    }
    if !tried.is_empty() {
        let names: Vec<&str> = tried.iter().map(|(right, _)| *right).collect();
        bail!(
            "recognized csr {} as [{}] but subject access review was not approved",
            object["metadata"]["name"],
            names.join(" ")
        );
    }
    Ok(())
}

/// The rights, any of which is enough for this request; empty for anything other than a kubelet's
/// client certificate.
fn rights(object: &Value) -> Result<Vec<(&'static str, &'static str)>> {
    let request = Request::of(object).context("unable to parse csr")?;
    let usages = object["spec"]["usages"].as_array();
    let usages: Vec<&str> = usages
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let exact = usages.len() == CLIENT_USAGES.len()
        && usages.iter().all(|usage| CLIENT_USAGES.contains(usage));
    if request.organizations != ["system:nodes"]
        || request.has_other_names
        || !exact
        || !request.name.starts_with("system:node:")
    {
        return Ok(Vec::new());
    }
    if object["spec"]["username"] == request.name {
        Ok(vec![SELF, OTHER])
    } else {
        Ok(vec![OTHER])
    }
}

fn may(api: &Client, object: &Value, right: &str) -> Result<bool> {
    let review = json!({
        "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1beta1",
        "spec": {
            "user": object["spec"]["username"], "group": object["spec"]["groups"],
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": right,
            },
        },
    });
    let path = "/apis/authorization.k8s.io/v1beta1/subjectaccessreviews";
    let answer = api.post(path, &review)?.json()?;
    Ok(answer["status"]["allowed"] == json!(true))
}

fn approve(api: &Client, object: &Value, message: &str) -> Result<()> {
    let mut approved = object.clone();
    let condition = json!({"type": "Approved", "reason": "AutoApproved", "message": message});
    match approved["status"]
        .get_mut("conditions")
        .and_then(Value::as_array_mut)
    {
        Some(conditions) => conditions.push(condition),
        None => approved["status"]["conditions"] = json!([condition]),
    }
    put(api, &approved, "approval").context("error updating approval for csr")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn asked(organization: &str, name: &str, hosts: &[&str], usages: &[&str]) -> Vec<&'static str> {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, name);
        let request = params.serialize_request(&KeyPair::generate().unwrap());
        let object = json!({"spec": {
            "username": "system:node:a", "usages": usages,
            "request": STANDARD.encode(request.unwrap().pem().unwrap()),
        }});
        let found = rights(&object).unwrap();
        found.iter().map(|(right, _)| *right).collect()
    }

    #[test]
    fn only_a_kubelets_client_certificate_is_approved() {
        let good = ("system:nodes", "system:node:a");
        let of = |usages: &[&str]| asked(good.0, good.1, &[], usages);
        assert_eq!(of(&CLIENT_USAGES), ["selfnodeclient", "nodeclient"]);
        let turned: Vec<&str> = CLIENT_USAGES.iter().rev().copied().collect();
        assert_eq!(of(&turned), ["selfnodeclient", "nodeclient"]);
        assert!(of(&["digital signature", "client auth"]).is_empty());
        assert!(of(&["digital signature", "key encipherment", "server auth"]).is_empty());
        let more = [&CLIENT_USAGES[..], &["server auth"]].concat();
        assert!(of(&more).is_empty());
        assert_eq!(
            asked(good.0, "system:node:b", &[], &CLIENT_USAGES),
            ["nodeclient"]
        );
        assert!(asked("system:masters", good.1, &[], &CLIENT_USAGES).is_empty());
        assert!(asked(good.0, "admin", &[], &CLIENT_USAGES).is_empty());
        assert!(asked(good.0, good.1, &["192.0.2.1"], &CLIENT_USAGES).is_empty());
        assert!(asked(good.0, good.1, &["host"], &CLIENT_USAGES).is_empty());
    }
}
