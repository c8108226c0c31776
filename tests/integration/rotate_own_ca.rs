//! The replacement of an authority of the operator's own.

use anyhow::Result;
use appliance::components::AUTHORITY;
use appliance::nodespec::Refused;
use appliance::paths;
use appliance::pki::GivenAuthority;
use appliance::rotate::authority::{Around, Cluster, Report, Wish, rotate};
use rcgen::KeyPair;
use time::OffsetDateTime;

use crate::harness::Machine;
use crate::rotate::prepared;
use crate::rotate_ca::{of_authorities, read, trusted};

/// An authority of an operator in files of the machine, as `openssl req -x509` makes it.
fn own(machine: &Machine, name: &str, since: OffsetDateTime) -> GivenAuthority {
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_before = since;
    params.not_after = since + time::Duration::days(1000);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, name);
    params.distinguished_name = subject;
    let pem = params.self_signed(&key).unwrap().pem();
    let (path, key_path) = (
        format!("etc/appliance/{name}.pem"),
        format!("etc/appliance/{name}-key.pem"),
    );
    machine.put(&path, &pem);
    machine.put(&key_path, &key.serialize_pem());
    let root = appliance::sys::root::Root::open(&machine.root()).unwrap();
    appliance::enroll::own_authority(&root, &format!("/{path}"), &format!("/{key_path}")).unwrap()
}

/// One run on the only master, with the settings in its file.
fn alone(machine: &Machine, given: Option<GivenAuthority>, begin: bool) -> Result<Report> {
    struct Nobody;
    impl Cluster for Nobody {
        fn behind(&self, _digest: &str) -> Result<Vec<String>> {
            Ok(vec![])
        }

        fn blind(&self, _pem: &str) -> Result<Vec<String>> {
            Ok(vec![])
        }
    }
    let around = Around {
        cluster: &Nobody,
        masters: &appliance::rotate::masters::Alone::default(),
        members: &appliance::rotate::members::Single,
    };
    let wish = Wish {
        begin,
        without_pods: false,
        given,
    };
    rotate(&prepared(machine, &[]), around, &wish)
}

#[test]
fn an_operators_authority_is_replaced_by_another_one_when_the_settings_name_it() {
    let machine = Machine::new();
    let now = OffsetDateTime::now_utc();
    let setting = |name: &str| {
        let text = format!(
            "ca: {{certificate: /etc/appliance/{name}.pem, key: /etc/appliance/{name}-key.pem}}\n"
        );
        machine.put("etc/appliance/config.yaml", &text);
    };
    let first = own(&machine, "first", now - time::Duration::days(30));
    setting("first");
    machine.installed(&[]);
    let before = of_authorities(&machine);
    // Not without a new one, not the same one, not one that begins earlier, not with another's key.
    let older = own(&machine, "older", now - time::Duration::days(60));
    let second = own(&machine, "second", now - time::Duration::days(10));
    let mixed = GivenAuthority {
        key: older.key.clone(),
        ..second.clone()
    };
    for (given, part) in [
        (None, "--ca FILE --ca-key FILE"),
        (Some(first), "has the key of /etc/kubernetes/ca/ca.pem"),
        (Some(older), "later beginning"),
        (Some(mixed), "do not belong together"),
    ] {
        let error = alone(&machine, given, true).unwrap_err();
        assert!(
            error.is::<Refused>() && format!("{error:#}").contains(part),
            "{part}: {error:#}"
        );
        assert_eq!(of_authorities(&machine), before);
    }

    // It is not dropped while the settings name the old one. Meanwhile an installation changes nothing.
    let error = alone(&machine, Some(second.clone()), true).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("which is the old authority"),
        "{error:#}"
    );
    assert_eq!(trusted(&machine, AUTHORITY).len(), 2);
    let both = of_authorities(&machine);
    machine.installed(&[]);
    assert_eq!(of_authorities(&machine), both);
    let third = own(&machine, "third", now);
    let error = alone(&machine, Some(third), true).unwrap_err();
    assert!(
        error.is::<Refused>() && error.to_string().contains("the rotation that is under way"),
        "{error:#}"
    );
    setting("second");
    machine.installed(&[]);
    let report = alone(&machine, None, false).unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!(read(&machine, paths::CA_CERTIFICATE), second.certificates);
    let key = read(&machine, &paths::key(AUTHORITY));
    assert_eq!(key.as_bytes(), second.key.expose());
    let after = of_authorities(&machine);
    machine.installed(&[]);
    assert_eq!(of_authorities(&machine), after);
}
