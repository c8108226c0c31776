//! Keys and certificates: openssl accepts them, and nothing that exists is lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use appliance::pki::inspect::inspect;
use appliance::pki::{
    AuthorityRequest, CertificateRequest, Existing, IssuedBy, KeyPairRequest, Pki, PkiRequest,
    Usage, is_due, resolve,
};
use proptest::prelude::{Strategy, prop, proptest};
use proptest::{prop_assert, prop_assert_eq};
use time::{Duration, OffsetDateTime};

const CA: &str = "/ca/ca.pem";
const CA_KEY: &str = "/ca/ca-key.pem";
const ETCD: &str = "/ca/etcd/etcd.pem";
const ETCD_KEY: &str = "/ca/etcd/etcd-key.pem";
const ACCOUNT: &str = "/ca/sa/sa-key.pem";
const ACCOUNT_PUBLIC: &str = "/ca/sa/sa.pub";

/// The node's files, in memory.
#[derive(Default)]
struct Files(RefCell<BTreeMap<String, Vec<u8>>>);

impl Existing for Files {
    fn read(&self, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.0.borrow().get(path).cloned())
    }
}

impl Files {
    /// Resolves and keeps the result, as a run of the program does.
    fn run(&self, request: &PkiRequest, now: OffsetDateTime) -> anyhow::Result<Pki> {
        let pki = resolve(request, self, now)?;
        for issued in pki.issued() {
            self.put(&issued.certificate_path, issued.certificate_pem.as_bytes());
            self.put(&issued.key_path, issued.key_pem.as_ref().unwrap().expose());
        }
        let account = pki.service_account.as_ref().unwrap();
        self.put(&account.private_path, account.private_pem.expose());
        self.put(&account.public_path, account.public_pem.as_bytes());
        Ok(pki)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        self.0.borrow_mut().insert(path.to_owned(), bytes.to_vec());
    }

    fn remove(&self, path: &str) {
        self.0.borrow_mut().remove(path).unwrap();
    }

    fn get(&self, path: &str) -> Vec<u8> {
        self.0.borrow()[path].clone()
    }

    /// Writes all files below a directory, for programs to read.
    fn write(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in self.0.borrow().iter() {
            let path = dir.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }
}

fn request() -> PkiRequest {
    PkiRequest {
        authority: AuthorityRequest {
            name: "ca",
            common_name: "kubernetes".to_owned(),
            path: CA.to_owned(),
            given: None,
        },
        etcd: None,
        certificates: vec![
            CertificateRequest {
                name: "etcd",
                path: ETCD.to_owned(),
                common_name: "etcd".to_owned(),
                organization: "k8s".to_owned(),
                dns_names: vec!["localhost".to_owned(), "server02".to_owned()],
                ip_addresses: vec![
                    "127.0.0.1".parse().unwrap(),
                    "192.168.1.102".parse().unwrap(),
                ],
                usage: Usage::Both,
                issuer: IssuedBy::Cluster,
            },
            CertificateRequest {
                name: "admin",
                path: "/ca/admin/admin.pem".to_owned(),
                common_name: "admin".to_owned(),
                organization: "system:masters".to_owned(),
                dns_names: vec![],
                ip_addresses: vec![],
                usage: Usage::Client,
                issuer: IssuedBy::Cluster,
            },
        ],
        service_account: KeyPairRequest {
            private: ACCOUNT.to_owned(),
            public: ACCOUNT_PUBLIC.to_owned(),
            given: None,
        },
    }
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn openssl(dir: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("openssl comes with the Debian package openssl");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

fn reason<'a>(pki: &'a Pki, name: &str) -> Option<&'a str> {
    pki.named(name).unwrap().reason.as_deref()
}

#[test]
fn openssl_accepts_every_chain_for_its_purpose_and_no_other() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let dir = files.write();
    let verify = |purpose: &str, certificate: &str| {
        openssl(
            dir.path(),
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                "ca/ca.pem",
                certificate,
            ],
        )
    };
    for (purpose, certificate, accepted) in [
        ("sslserver", "ca/etcd/etcd.pem", true),
        ("sslclient", "ca/etcd/etcd.pem", true),
        ("sslclient", "ca/admin/admin.pem", true),
        ("sslserver", "ca/admin/admin.pem", false),
    ] {
        let (success, said) = verify(purpose, certificate);
        assert_eq!(success, accepted, "{purpose} {certificate}: {said}");
    }
    let (_, text) = openssl(
        dir.path(),
        &["x509", "-noout", "-text", "-in", "ca/etcd/etcd.pem"],
    );
    for part in [
        "DNS:server02",
        "IP Address:192.168.1.102",
        "CA:FALSE",
        "Key Encipherment",
        "prime256v1",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    assert!(
        text.contains("Subject: O = k8s, CN = etcd") || text.contains("Subject: O=k8s, CN=etcd"),
        "{text}"
    );
}

#[test]
fn the_service_accounts_keys_are_a_pair_of_their_own() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let dir = files.write();
    let (success, public) = openssl(dir.path(), &["pkey", "-in", "ca/sa/sa-key.pem", "-pubout"]);
    assert!(success, "{public}");
    assert_eq!(public.as_bytes(), files.get(ACCOUNT_PUBLIC));
    assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_ne!(files.get(ACCOUNT), files.get(CA_KEY));
}

#[test]
fn a_second_run_changes_nothing() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let before = files.0.borrow().clone();
    let pki = files.run(&request(), now() + Duration::days(50)).unwrap();
    assert_eq!(*files.0.borrow(), before);
    assert!(pki.issued().all(|issued| issued.reason.is_none()));
}

#[test]
fn a_key_without_a_certificate_is_kept_and_gets_one() {
    for (certificate, key) in [(ETCD, ETCD_KEY), (CA, CA_KEY)] {
        let files = Files::default();
        files.run(&request(), now()).unwrap();
        let before = files.get(key);
        files.remove(certificate);
        files.run(&request(), now()).unwrap();
        assert_eq!(files.get(key), before, "{key}");
        let dir = files.write();
        let (success, said) = openssl(
            dir.path(),
            &["verify", "-CAfile", "ca/ca.pem", "ca/etcd/etcd.pem"],
        );
        assert!(success, "{said}");
    }
}

#[test]
fn an_authority_without_its_key_stops_everything() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    files.remove(CA_KEY);
    let error = files.run(&request(), now()).unwrap_err().to_string();
    assert!(
        error.contains(CA) && error.contains(CA_KEY) && error.contains("restore the key"),
        "{error}"
    );
}

#[test]
fn an_authority_with_another_key_stops_everything() {
    let (files, other) = (Files::default(), Files::default());
    files.run(&request(), now()).unwrap();
    other.run(&request(), now()).unwrap();
    files.put(CA_KEY, &other.get(CA_KEY));
    let error = files.run(&request(), now()).unwrap_err().to_string();
    assert!(error.contains("do not belong together"), "{error}");
}

#[test]
fn a_damaged_key_is_refused_and_never_quoted() {
    for key in [CA_KEY, ETCD_KEY, ACCOUNT] {
        let files = Files::default();
        files.run(&request(), now()).unwrap();
        let mut damaged = files.get(key);
        damaged.truncate(80);
        files.put(key, &damaged);
        let error = format!("{:?}", files.run(&request(), now()).unwrap_err());
        assert!(
            error.contains(key) && error.contains("it is not overwritten"),
            "{error}"
        );
        assert!(
            !error.contains(str::from_utf8(&damaged[30..60]).unwrap()),
            "{error}"
        );
    }
}

#[test]
fn an_address_that_is_not_seen_for_once_does_not_change_the_certificate() {
    let files = Files::default();
    let mut with_floating_ip = request();
    with_floating_ip.certificates[0]
        .ip_addresses
        .push("203.0.113.7".parse().unwrap());
    files.run(&with_floating_ip, now()).unwrap();
    assert_eq!(reason(&files.run(&request(), now()).unwrap(), "etcd"), None);

    let mut moved = request();
    moved.certificates[0]
        .ip_addresses
        .push("203.0.113.8".parse().unwrap());
    let pki = files.run(&moved, now()).unwrap();
    assert!(reason(&pki, "etcd").unwrap().contains("names or usages"));
}

#[test]
fn a_certificate_is_made_again_for_its_key_when_it_will_not_do() {
    let strange = Files::default();
    strange.run(&request(), now()).unwrap();
    let mut renamed = request();
    renamed.certificates[0]
        .dns_names
        .push("floating.example.org".to_owned());
    type Damage<'a> = &'a dyn Fn(&Files);
    let cases: [(&str, PkiRequest, OffsetDateTime, Damage<'_>); 4] = [
        ("names or usages differed", renamed, now(), &|_| {}),
        ("could not be read", request(), now(), &|files| {
            files.put(ETCD, b"garbage");
        }),
        ("another authority", request(), now(), &|files| {
            files.put(ETCD, &strange.get(ETCD));
        }),
        ("not yet valid", request(), now(), &issued_ahead),
    ];
    for (expected, request_now, at, damage) in cases {
        let files = Files::default();
        files.run(&request(), now()).unwrap();
        let key = files.get(ETCD_KEY);
        damage(&files);
        let pki = files.run(&request_now, at).unwrap();
        let reason = reason(&pki, "etcd").unwrap_or_default();
        assert!(reason.contains(expected), "{expected}: {reason}");
        assert_eq!(files.get(ETCD_KEY), key);
    }
}

/// Issues a certificate anew, with a clock that is ahead.
fn issued_ahead(files: &Files) {
    let ahead = Files(files.0.clone());
    ahead.remove(ETCD);
    ahead.run(&request(), now() + Duration::days(20)).unwrap();
    files.put(ETCD, &ahead.get(ETCD));
}

#[test]
fn a_certificate_that_was_issued_by_a_clock_that_was_ahead_is_due() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let due = |at: OffsetDateTime| is_due(&files.get(ETCD), &files.get(CA), at);
    assert!(!due(now()).unwrap());
    issued_ahead(&files);
    assert!(due(now()).unwrap());
    // A clock that is wrong itself says nothing about a certificate.
    let error = due(OffsetDateTime::UNIX_EPOCH).unwrap_err().to_string();
    assert!(error.contains("1970-01-01"), "{error}");
}

#[test]
fn nothing_is_issued_with_a_clock_that_is_before_its_authority() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let before = files.get(ETCD);
    let refused = |files: &Files| {
        let error = files.run(&request(), OffsetDateTime::UNIX_EPOCH);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("1970-01-01"), "{error}");
        assert!(error.contains("timedatectl"), "{error}");
    };
    refused(&files);
    assert_eq!(files.get(ETCD), before);
    files.remove(ETCD);
    refused(&files);
}

#[test]
fn certificates_live_a_year_and_the_admins_ninety_days() {
    let files = Files::default();
    let pki = files.run(&request(), now()).unwrap();
    let lives = |name: &str| {
        let info = inspect(pki.named(name).unwrap().certificate_pem.as_bytes()).unwrap();
        (info.not_after - now() + Duration::minutes(1)).whole_days()
    };
    assert_eq!(
        (lives("ca"), lives("etcd"), lives("admin")),
        (3650, 365, 90)
    );
    // At two thirds of their time, at the latest at three quarters, they are renewed.
    for (name, early, late) in [("etcd", 243, 275), ("admin", 59, 69)] {
        let at = |days: i64| {
            let files = Files(files.0.clone());
            let pki = files.run(&request(), now() + Duration::days(days)).unwrap();
            reason(&pki, name).unwrap_or_default().to_owned()
        };
        assert_eq!(at(early - 1), "", "{name}");
        assert_eq!(at(late), "it would expire soon", "{name}");
    }
}

#[test]
fn a_certificate_that_ends_with_its_authority_is_not_renewed() {
    // A renewal would not help.
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let near_end = now() + Duration::days(3650 - 20);
    files.run(&request(), near_end).unwrap();
    assert_eq!(
        reason(&files.run(&request(), near_end).unwrap(), "etcd"),
        None
    );
    let error = files
        .run(&request(), near_end + Duration::days(30))
        .unwrap_err()
        .to_string();
    assert!(error.contains("expired"), "{error}");
}

#[test]
fn an_empty_file_counts_as_none() {
    let files = Files::default();
    files.run(&request(), now()).unwrap();
    let key = files.get(CA_KEY);
    for path in [CA, ETCD, ETCD_KEY] {
        files.put(path, b"");
    }
    files.run(&request(), now()).unwrap();
    assert_eq!(files.get(CA_KEY), key);
    let dir = files.write();
    let (success, said) = openssl(
        dir.path(),
        &["verify", "-CAfile", "ca/ca.pem", "ca/etcd/etcd.pem"],
    );
    assert!(success, "{said}");
}

#[test]
fn another_key_in_a_keys_place_is_kept_and_gets_its_own_certificate() {
    let (files, other) = (Files::default(), Files::default());
    files.run(&request(), now()).unwrap();
    other.run(&request(), now()).unwrap();
    files.put(ETCD_KEY, &other.get(ETCD_KEY));
    let pki = files.run(&request(), now()).unwrap();
    assert_eq!(reason(&pki, "etcd"), Some("it was for another key"));
    assert_eq!(files.get(ETCD_KEY), other.get(ETCD_KEY));
    assert_eq!(
        inspect(&files.get(ETCD)).unwrap().public_key,
        inspect(&other.get(ETCD)).unwrap().public_key
    );
}

#[test]
fn a_certificate_of_an_older_authority_is_renewed_before_it_ends() {
    let files = Files::default();
    files.run(&request(), now() - Duration::days(300)).unwrap();
    // The operator renewed the CA with its key, and the leaf certificate expires soon.
    files.remove(CA);
    let pki = files.run(&request(), now()).unwrap();
    assert_eq!(reason(&pki, "etcd"), Some("it would expire soon"));
}

#[test]
fn an_operators_rsa_authority_is_used() {
    let files = Files::default();
    let dir = tempfile::tempdir().unwrap();
    let (success, said) = openssl(
        dir.path(),
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "ca-key.pem",
            "-out",
            "ca.pem",
            "-days",
            "365",
            "-subj",
            "/O=Example/CN=Example Root",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ],
    );
    assert!(success, "{said}");
    for (path, name) in [(CA, "ca.pem"), (CA_KEY, "ca-key.pem")] {
        files.put(path, &std::fs::read(dir.path().join(name)).unwrap());
    }
    files.run(&request(), now()).unwrap();
    let dir = files.write();
    let (success, said) = openssl(
        dir.path(),
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            "ca/ca.pem",
            "ca/etcd/etcd.pem",
        ],
    );
    assert!(success, "{said}");
    let leaf = inspect(&files.get(ETCD)).unwrap();
    assert!(leaf.not_after <= inspect(&files.get(CA)).unwrap().not_after);
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(32))]
    #[test]
    fn a_certificate_bears_exactly_what_was_asked(
        names in prop::collection::vec(prop::collection::vec(label(), 1..4), 0..6),
        addresses in prop::collection::vec(proptest::arbitrary::any::<IpAddr>(), 0..6),
    ) {
        let mut request = request();
        request.certificates[0].dns_names = names.iter().map(|labels| labels.join(".")).collect();
        request.certificates[0].ip_addresses.clone_from(&addresses);
        let files = Files::default();
        files.run(&request, now()).unwrap();
        let info = inspect(&files.get(ETCD)).unwrap();
        prop_assert_eq!(&info.dns_names, &request.certificates[0].dns_names);
        prop_assert_eq!(info.ip_addresses, addresses);
        prop_assert!(reason(&files.run(&request, now()).unwrap(), "etcd").is_none());
    }
}
