//! The role of a node, and where it is from: properties, the inventory, rules, the master's
//! address.

use appliance::nodespec::Role;

use super::{
    DRIVE, assert_holds, config, interface, master, nameless, property, refusal, resolved,
};

#[test]
fn an_unknown_role_names_its_place_and_the_command_that_mends_it() {
    let mut inputs = master();
    inputs.layers = vec![property(DRIVE, "role: mastre")];
    assert_holds(
        &refusal(&inputs),
        &[
            "config drive /dev/sr0: `meta.role` is \"mastre\"",
            "expected master, worker or single",
            "override it with `--set role=VALUE`",
            "openstack server set --property role=master SERVER",
            "rebuild the server",
        ],
    );
    inputs.metadata[0].is_live = true;
    let text = refusal(&inputs);
    assert_holds(
        &text,
        &["(set it with `openstack server set --property role=master SERVER`)"],
    );
    inputs.layers = vec![config("role: “master”")];
    assert_holds(
        &refusal(&inputs),
        &["expected master, worker or single; `“` is a full-width character; write `\"`"],
    );
    inputs.layers = vec![config("role: '[master, worker]'")];
    assert_holds(
        &refusal(&inputs),
        &[
            "`role` is \"[master, worker]\"",
            "config validate site.yaml",
        ],
    );
}

#[test]
fn without_a_role_every_place_that_was_looked_at_is_listed() {
    let mut inputs = master();
    inputs.layers = vec![
        property(DRIVE, "{}"),
        config(
            "inventory: [{name: other, role: master}]\nroleRules: [{launchIndex: 0, role: master}]",
        ),
    ];
    inputs.metadata[0]
        .meta
        .insert("rloe".to_owned(), "master".to_owned());
    inputs.looked_at = vec!["cloud-init's cache: there is none".to_owned()];
    assert_holds(
        &refusal(&inputs),
        &[
            "flag --role",
            "APPLIANCE_ROLE",
            DRIVE,
            "the property `rloe` is not a setting; did you mean `role`?",
            "configuration site.yaml: `role`",
            "`inventory` (no entry for Server 02, server02.novalocal, server02)",
            "`roleRules` (no rule matches)",
            "cloud-init's cache: there is none",
            "openstack server set --property role=master",
            "openstack server rebuild",
            "write the line `role: master` into /etc/appliance/config.yaml",
        ],
    );
    inputs.metadata[0].is_live = true;
    let text = refusal(&inputs);
    assert_holds(
        &text,
        &["or run `openstack server set --property role=master SERVER`"],
    );
    assert!(!text.contains("rebuild"), "{text}");
}

#[test]
fn an_inventory_without_this_vm_is_told_unless_rules_are_for_such_vms() {
    let mut inputs = master();
    let with = |text: &str| vec![config(&format!("role: master\n{text}"))];
    inputs.layers = with("inventory: [{name: srver02, role: worker}]");
    let warnings = resolved(&inputs).warnings.join("\n");
    let told = "`inventory`: no entry matches this VM: server 02, server02.novalocal, server02";
    assert!(
        warnings.contains(&format!("{told} (is `srver02` meant?)")),
        "{warnings}"
    );
    inputs.layers = with(
        "inventory: [{name: other, role: worker}]\nroleRules: [{launchIndex: 9, role: worker}]",
    );
    let warnings = resolved(&inputs).warnings.join("\n");
    assert!(!warnings.contains("no entry"), "{warnings}");
}

#[test]
fn user_data_that_is_not_read_and_misspelt_properties_are_told() {
    let mut inputs = master();
    inputs.layers = vec![property(DRIVE, "{}")];
    inputs.metadata[0].user_data =
        Some(b"---\n#cloud-config\nappliance: {role: master}\n".to_vec());
    inputs.metadata[0].warnings = vec!["`links[0]` is a list; it is passed over".to_owned()];
    let reasons = [
        "config drive /dev/sr0: user-data mentions `appliance` but is not read, because the line \
         `---` is before `#cloud-config`",
        "`links[0]` is a list",
    ];
    assert_holds(&refusal(&inputs), &reasons);
    inputs.layers.push(config("role: master"));
    inputs.metadata[0].meta = [
        ("podCDIR", "10.0.0.0/16"),
        ("Rolle", "x"),
        ("mode", "y"),
        ("os", "z"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let warnings = resolved(&inputs).warnings.join("\n");
    for part in reasons {
        assert_eq!(warnings.matches(part).count(), 1, "{warnings}");
    }
    assert!(
        warnings.contains("`podCDIR` is not a setting; did you mean `podCIDR`?"),
        "{warnings}"
    );
    assert!(
        warnings.contains("`Rolle` is not a setting; did you mean `role`?"),
        "{warnings}"
    );
    assert!(
        !warnings.contains("`mode`") && !warnings.contains("`os`"),
        "{warnings}"
    );
}

const INVENTORY: &str = "
inventory:
- {name: server01, role: worker, address: 192.168.1.101}
- {name: server02, role: master, address: 192.168.1.102}
- {uuid: 00000000-0000-4000-8000-000000000003, name: server03, role: worker}
";

#[test]
fn a_vm_finds_itself_in_the_inventory_by_name_address_or_uuid() {
    let spec = resolved(&nameless(INVENTORY));
    assert_eq!(*spec.role, Role::Master);
    assert_eq!(
        spec.role.origin.to_string(),
        "config drive /dev/sr0: user-data: `appliance.inventory[1].role`"
    );
    assert_eq!(spec.cluster.hosts["server01"].to_string(), "192.168.1.101");

    let mut by_uuid = nameless(INVENTORY);
    by_uuid.host.interfaces = Some(vec![interface("ens3", 3, &["192.168.1.103/24"])]);
    by_uuid.metadata[0].interfaces.clear();
    by_uuid.metadata[0].uuid = "00000000-0000-4000-8000-000000000003".to_uppercase();
    by_uuid.metadata[0].hostname = "renamed.novalocal".to_owned();
    by_uuid.metadata[0].name = "renamed".to_owned();
    let spec = resolved(&by_uuid);
    assert_eq!((*spec.role, spec.name.as_str()), (Role::Worker, "server03"));
    assert_eq!(spec.cluster.master.unwrap().to_string(), "192.168.1.102");

    let by_address = nameless("inventory: [{address: 192.168.1.102, role: single}]");
    assert_eq!(*resolved(&by_address).role, Role::Single);

    let stale = nameless("inventory: [{uuid: another, name: server02, role: master}]");
    assert_holds(&refusal(&stale), &["no role found"]);
}

#[test]
fn a_vm_finds_itself_under_every_form_of_its_name() {
    let entry = |name: &str| {
        format!(
            "inventory: [{{name: server01, role: master, address: 192.168.1.101}}, \
             {{name: {name}, role: worker, address: 192.168.1.102}}]"
        )
    };
    for (hostname, listed) in [
        ("Db-Two.novalocal", "db-two"),
        ("db-two.novalocal", "Db-Two"),
        ("db_two", "db-two"),
        ("db-two.novalocal.", "DB-Two.novalocal"),
    ] {
        let mut inputs = nameless(&entry(listed));
        inputs.metadata[0].hostname = hostname.to_owned();
        inputs.metadata[0].name = String::new();
        let spec = resolved(&inputs);
        assert_eq!(*spec.role, Role::Worker);
        assert_eq!(*spec.name, listed.to_lowercase());
        assert!(spec.cluster.hosts.contains_key(&*spec.name));
        assert!(
            !spec
                .warnings
                .iter()
                .any(|warning| warning.contains("is called"))
        );
    }
    let mut renamed = nameless(&entry("db-two"));
    renamed.layers.push(property(DRIVE, "nodeName: DB-Two"));
    let spec = resolved(&renamed);
    assert_eq!((*spec.role, spec.name.as_str()), (Role::Worker, "db-two"));
}

#[test]
fn an_entry_with_this_vms_address_and_another_name_counts_with_its_role() {
    for (role, expected, master) in [
        ("single", Role::Single, "192.168.1.102"),
        ("master", Role::Master, "192.168.1.102"),
        ("worker", Role::Worker, "192.168.1.101"),
    ] {
        let spec = resolved(&nameless(&format!(
            "master: {master}\ninventory: [{{name: db, role: {role}, address: 192.168.1.102}}]"
        )));
        assert_eq!((*spec.role, spec.name.as_str()), (expected, "db"));
        assert_holds(
            &spec.warnings[0],
            &["is \"db\"", "server02", "correct its address"],
        );
    }
}

#[test]
fn an_inventory_that_cannot_be_true_is_refused_entry_by_entry() {
    let text = refusal(&nameless(
        "
inventory:
- {name: server02, role: master, address: 192.168.1.102}
- {name: Server02, role: worker, address: 192.168.1.103}
- {name: server04, role: worker, address: 192.168.1.102}
- {name: ../../etc/passwd, role: worker}
- {role: worker}
- {name: server05, role: boss, address: 127.0.0.1}
",
    ));
    assert_holds(
        &text,
        &[
            "`appliance.inventory[1].name` is \"Server02\": inventory[0] has the same one",
            "`appliance.inventory[2].address` is \"192.168.1.102\": inventory[0] has the same one",
            "`appliance.inventory[3].name` is \"../../etc/passwd\"",
            "`appliance.inventory[4]`: add `name`, `uuid` or `address`",
            "`appliance.inventory[5].role` is \"boss\"",
            "`appliance.inventory[5].address` is \"127.0.0.1\"",
            "/etc/appliance/config.yaml",
        ],
    );
    let twice = nameless(
        "inventory: [{name: server02, role: master}, {address: 192.168.1.102, role: worker}]",
    );
    assert_holds(&refusal(&twice), &["inventory[1] matches this VM, too"]);
}

#[test]
fn a_role_that_was_set_wins_over_the_inventory_and_says_so() {
    let mut inputs = nameless(INVENTORY);
    inputs.layers.push(property(DRIVE, "role: single"));
    let spec = resolved(&inputs);
    assert_eq!(*spec.role, Role::Single);
    assert_holds(
        &spec.warnings[0],
        &["is single", "inventory[1].role` is master"],
    );
}

#[test]
fn rules_give_a_role_by_launch_index_and_host_name() {
    let rules = "{master: 192.168.1.101, roleRules: [{launchIndex: 0, role: master}, \
                 {hostName: 'server*', role: worker}]}";
    assert_eq!(*resolved(&nameless(rules)).role, Role::Worker);
    let mut first = nameless(rules);
    first.metadata[0].launch_index = Some(0);
    let spec = resolved(&first);
    assert_eq!(*spec.role, Role::Master);
    assert_holds(&spec.role.origin.to_string(), &["roleRules[0].role"]);

    let both = "roleRules: [{launchIndex: 1, hostName: 'db-?', role: worker}]";
    assert_holds(&refusal(&nameless(both)), &["(no rule matches)"]);
    for (bad, why) in [
        (
            "roleRules: [{role: master}]",
            "add `launchIndex` or `hostName`",
        ),
        (
            "roleRules: [{launchIndex: first, role: master}]",
            "expected a number",
        ),
        (
            "roleRules: [{hostName: '*', role: boss}]",
            "`appliance.roleRules[0].role` is \"boss\"",
        ),
    ] {
        assert_holds(&refusal(&nameless(bad)), &[why]);
    }
}

#[test]
fn the_vm_with_the_masters_address_is_the_master() {
    assert_eq!(
        *resolved(&nameless("master: 192.168.1.102")).role,
        Role::Master
    );
    let other = nameless("master: 192.168.1.109");
    assert_holds(&refusal(&other), &["no role found"]);
}

/// `appliance install --role worker` may be followed by a bare `appliance install`, as many hints say.
#[test]
fn a_node_keeps_the_role_with_which_it_was_installed() {
    let mut inputs = nameless("master: 192.168.1.109");
    inputs.host.role = Some(Role::Worker);
    let spec = resolved(&inputs);
    assert_eq!(spec.role.value, Role::Worker);
    let origin = spec.role.origin.to_string();
    assert_holds(&origin, &["record of its role", "state.json"]);

    inputs.layers.push(config("role: master"));
    assert_eq!(*resolved(&inputs).role, Role::Master);
}
