//! The kubeconfig that the kubelet wrote for itself when it got its certificate. It keeps the address of the API server
//! from then, and reads it from nowhere else later.

use super::{Current, Step};
use crate::desired::{Content, Desired, Purpose};
use crate::paths::KUBELET_KUBECONFIG;
use crate::pki::Secret;

/// The name of the service that reads it.
pub const KUBELET: &str = "kubelet";

/// The line of the kubeconfig with the address of the API server.
const SERVER: &str = "server:";

/// The step that gives the kubelet's own kubeconfig the address of the API server; `None` if it has it, or if the kubelet
/// has not written the file yet.
pub fn pointed(desired: &Desired, current: &Current) -> Option<Step> {
    let server = desired.kubelet_server.as_ref()?;
    let before = current.kubelet_kubeconfig.as_ref()?;
    let text = with_server(before, server)?;
    Some(Step::WriteFile {
        path: KUBELET_KUBECONFIG.to_owned(),
        mode: 0o600,
        content: Content::Secret(Secret::new(text.into_bytes())),
        replaces: None,
        new: false,
        purpose: Purpose::Other,
    })
}

/// The kubeconfig with this server; `None` if nothing is to be changed. All other lines stay.
fn with_server(kubeconfig: &[u8], server: &str) -> Option<String> {
    let text = std::str::from_utf8(kubeconfig).ok()?;
    let pointed: String = text
        .split_inclusive('\n')
        .map(|line| {
            let rest = line.trim_start();
            let indent = &line[..line.len() - rest.len()];
            match rest.starts_with(SERVER) {
                true => format!("{indent}{SERVER} {server}\n"),
                false => line.to_owned(),
            }
        })
        .collect();
    (pointed != text).then_some(pointed)
}

#[cfg(test)]
mod tests {
    use super::with_server;

    const OLD: &str = "clusters:\n- cluster:\n    certificate-authority-data: QQ==\n    server: https://192.168.1.102:6443\n  \
                       name: default-cluster\n";

    #[test]
    fn only_the_server_of_the_kubelets_own_kubeconfig_changes() {
        let server = "https://192.168.2.102:6443";
        let new = OLD.replace("https://192.168.1.102:6443", server);
        assert_eq!(with_server(OLD.as_bytes(), server), Some(new.clone()));
        assert_eq!(with_server(new.as_bytes(), server), None);
        assert_eq!(with_server(b"{}", server), None);
        assert_eq!(with_server(b"\xff", server), None);
    }
}
