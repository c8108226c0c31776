//! The certificate requests that a node may make.

use std::net::Ipv4Addr;

use appliance::components;
use appliance::join::csr::{Allowed, check};
use appliance::join::message::{CertificateSigningRequest, Reason};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::bed::{Node, WORKER};

const ADDRESS: Ipv4Addr = WORKER;

fn worker() -> Allowed {
    Allowed::worker("server01", ADDRESS)
}

fn good() -> Vec<CertificateSigningRequest> {
    let node = Node::new("server01");
    let held = node.held(None);
    let request = |held: &appliance::pki::Held<'_>| CertificateSigningRequest {
        name: held.request.name.to_owned(),
        csr: held.signing_request().unwrap(),
    };
    held.iter().map(request).collect()
}

/// The reason for refusing the requests, if the one for `name` is replaced by another.
fn refusal(name: &str, csr: String) -> String {
    let mut requests = good();
    let other = requests.iter_mut().find(|r| r.name == name).unwrap();
    other.csr = csr;
    let refusal = check(&requests, &worker()).err().unwrap();
    assert_eq!(refusal.reason, Reason::BadCertificateRequest);
    assert!(refusal.error.contains(name), "{}", refusal.error);
    refusal.error
}

fn params(organization: &str, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn client() -> CertificateParams {
    let mut params = params("system:nodes", "system:node:server01");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn server() -> CertificateParams {
    let mut params = params("system:nodes", "system:node:server01");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![
        SanType::DnsName("server01".try_into().unwrap()),
        SanType::IpAddress(ADDRESS.into()),
    ];
    params
}

fn csr(params: &CertificateParams) -> String {
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn what_a_worker_asks_for_may_be_had() {
    let checked = check(&good(), &worker()).unwrap();
    assert_eq!(checked.key.len(), 64);
    for (name, params) in [("kubelet-client", client()), ("kubelet", server())] {
        let mut requests = good();
        let own = requests.iter_mut().find(|r| r.name == name).unwrap();
        own.csr = csr(&params);
        check(&requests, &worker()).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    }
}

#[test]
fn no_other_name_or_group_may_be_had() {
    for (organization, common_name) in [
        ("system:masters", "system:node:server01"),
        ("system:nodes", "system:node:server03"),
        ("system:nodes", "admin"),
        ("system:masters", "admin"),
        ("k8s", "etcd"),
        ("", "system:node:server01"),
    ] {
        let error = refusal("kubelet-client", csr(&params(organization, common_name)));
        assert!(
            error.contains("expected O=system:nodes, CN=system:node:server01"),
            "{error}"
        );
    }
    let mut more = client();
    more.distinguished_name
        .push(DnType::OrganizationalUnitName, "system:masters");
    assert!(refusal("kubelet-client", csr(&more)).contains("nothing else"));
}

/// A subject with the same attribute twice, which not every library can express.
#[test]
fn a_second_group_beside_the_right_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-subj",
            "/O=system:nodes/O=system:masters/CN=system:node:server01",
        ])
        .args(["-keyout", "key.pem", "-out", "csr.pem"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let csr = std::fs::read_to_string(dir.path().join("csr.pem")).unwrap();
    assert!(refusal("kubelet-client", csr).contains("system:masters"));
}

#[test]
fn nobody_becomes_an_authority_or_gets_other_usages() {
    let mut authority = client();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(refusal("kubelet-client", csr(&authority)).contains("requests a CA certificate"));
    let mut signs = client();
    signs.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    refusal("kubelet-client", csr(&signs));
    let mut serves = client();
    serves.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    refusal("kubelet-client", csr(&serves));
    let mut strange = client();
    let extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999], vec![5, 0]);
    strange.custom_extensions = vec![extension];
    refusal("kubelet-client", csr(&strange));
}

#[test]
fn a_server_bears_its_nodes_names_and_no_more() {
    let san = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for more in [
        san("kubernetes"),
        san("server02"),
        SanType::IpAddress(Ipv4Addr::new(10, 68, 0, 1).into()),
        SanType::URI("https://server01".try_into().unwrap()),
        SanType::Rfc822Name("a@b".try_into().unwrap()),
    ] {
        let mut params = server();
        params.subject_alt_names.push(more);
        assert!(refusal("kubelet", csr(&params)).contains("subject alternative name"));
    }
    let mut less = server();
    less.subject_alt_names.pop();
    refusal("kubelet", csr(&less));
    let mut named = client();
    named.subject_alt_names.push(san("server01"));
    refusal("kubelet-client", csr(&named));
}

#[test]
fn broken_weak_and_strange_requests_are_refused() {
    for broken in [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ] {
        refusal("kubelet", broken.to_owned());
    }
    // Signed by one key, but with the public key of another.
    let (one, other) = (csr(&client()), csr(&client()));
    let mixed = one.len() / 2;
    refusal("kubelet-client", one[..mixed].to_owned() + &other[mixed..]);
    let weak = openssl_rsa(1024);
    assert!(refusal("kubelet-client", weak).contains("2048"));
    let requests = |names: &[&str]| {
        let good = good();
        let named = |name: &&str| good.iter().find(|r| r.name == *name).cloned();
        names.iter().filter_map(named).collect::<Vec<_>>()
    };
    let twice = requests(&["kubelet-client", "kubelet-client"]);
    assert!(check(&twice, &worker()).is_err());
    let unnamed = requests(&["kubelet"]);
    let error = check(&unnamed, &worker()).err().unwrap().error;
    assert!(error.contains("kubelet-client is missing"), "{error}");
    let mut unknown = good();
    unknown[0].name = "admin\n".to_owned();
    let error = check(&unknown, &worker()).err().unwrap().error;
    assert!(
        error.contains(r"admin\\n") && !error.contains('\n'),
        "{error}"
    );
}

/// One reader of PEM took the first block, another one the second: one was checked, the other one certified.
#[test]
fn a_text_in_which_two_readers_find_two_requests_is_refused() {
    let (one, other) = (csr(&client()), csr(&client()));
    check(&good(), &worker()).unwrap();
    for text in [
        format!("{one}{other}"),
        format!(" {one}{other}"),
        format!("\t{one}{other}"),
        format!("\u{feff}{one}{other}"),
        format!("{}{other}", one.replace('\n', "\r")),
        format!(" {one}"),
        format!("text\n{one}"),
        format!("{one}text"),
        format!("\n{one}"),
    ] {
        let error = refusal("kubelet-client", text.clone());
        assert!(
            error.contains("one PEM block") || error.contains("PKCS#10"),
            "{text}: {error}"
        );
    }
    let mut requests = good();
    let own = requests.iter_mut().find(|r| r.name == "kubelet-client");
    let own = own.unwrap();
    own.csr = own
        .csr
        .replace("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST");
    assert!(check(&requests, &worker()).is_err());
}

fn openssl_rsa(bits: u32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("openssl")
        .args(["req", "-new", "-newkey", &format!("rsa:{bits}"), "-nodes"])
        .args(["-subj", "/O=system:nodes/CN=system:node:server01"])
        .args(["-keyout", "key.pem", "-out", "csr.pem"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    std::fs::read_to_string(dir.path().join("csr.pem")).unwrap()
}

#[test]
fn the_table_of_what_a_worker_may_have_holds_no_ones_elses_names() {
    for request in components::worker("server01", ADDRESS) {
        assert_ne!(request.organization, "system:masters");
        assert!(
            !request.common_name.contains("server0") || request.common_name.ends_with("server01")
        );
    }
}
