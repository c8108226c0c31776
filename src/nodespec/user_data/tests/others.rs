//! What others write into the same cloud-config: cloud-init takes it, so it stops no node.

use super::*;

#[test]
fn what_cloud_init_takes_beside_the_section_is_passed_over() {
    let binary = base64::engine::general_purpose::STANDARD.encode([0xff; 12]);
    let aliases = "*a, ".repeat(400);
    for others in [
        "runcmd: [one]\nruncmd: [two]\n",
        "users:\n- name: x\n  name: y\n",
        "'x': 1\n\"x\": 2\n",
        &format!("write_files:\n- path: /etc/logo\n  content: !!binary {binary}\n"),
        "limit: .inf\nlow: -.INF\nnone: .nan\nmuch: 1e999\n",
        &format!("a: &a [x]\nb: [{aliases}]\n"),
        &format!("deep: {}{}\n", "[".repeat(250), "]".repeat(250)),
        "null: x\n",
        "x:\n  22: a\n  true: b\n  null: c\n  1.5: d\n  2001-12-14: e\n",
        "22: a\n~: b\n",
        "write_files:\n- null: a\n  path: /a\n",
    ] {
        for text in [
            format!("#cloud-config\n{others}appliance:\n  role: master\n"),
            format!("#cloud-config\nappliance:\n  role: master\n{others}"),
        ] {
            assert_eq!(role(text.as_bytes()).as_deref(), Some("master"), "{text}");
        }
        let archive = format!("#cloud-config\n{others}").replace('\n', "\n    ");
        let section = "- content: |\n    appliance: {role: master}\n";
        let text = format!("#cloud-config-archive\n- content: |\n    {archive}\n{section}");
        assert_eq!(role(text.as_bytes()).as_deref(), Some("master"), "{text}");
    }
}

#[test]
fn in_the_section_itself_nothing_is_passed_over() {
    let others = "runcmd: [one]\nruncmd: [two]\n";
    for (section, expected) in [
        (
            "appliance:\n  role: master\n  role: worker\n",
            "`appliance`: duplicate mapping key: role; keep one",
        ),
        (
            "appliance: {role: master}\nappliance: {role: worker}\n",
            "duplicate mapping key: appliance; keep one",
        ),
        ("appliance: master\n", "`appliance`: "),
        ("appliance:\n  rolle: master\n", "did you mean `role`?"),
    ] {
        for text in [
            format!("#cloud-config\n{section}"),
            format!("#cloud-config\n{others}{section}"),
        ] {
            let error = error(text.as_bytes());
            assert!(error.contains(expected), "{text}{error}");
            assert!(!error.contains("Options"), "{error}");
        }
    }
    // The line is that in the whole text.
    let error = error(format!("#cloud-config\n{others}appliance:\n  rolle: x\n").as_bytes());
    assert!(error.contains("line 5"), "{error}");
}

#[test]
fn the_section_may_use_parts_that_are_named_elsewhere() {
    let text = "#cloud-config\nx: &x master\nx: 2\nappliance:\n  role: *x\n";
    assert_eq!(role(text.as_bytes()).as_deref(), Some("master"));
}

#[test]
fn a_file_of_settings_may_be_bytes() {
    let file = |encoding: &str, content: &[u8]| {
        let content = base64::engine::general_purpose::STANDARD.encode(content);
        format!(
            "#cloud-config\nwrite_files:\n- path: {CONFIG}\n  {encoding}content: !!binary {content}\n"
        )
    };
    let plain = file("", b"role: master\n");
    let gzipped = file("encoding: gz\n  ", &gzip(b"role: master\n"));
    for text in [plain, gzipped] {
        assert_eq!(role(text.as_bytes()).as_deref(), Some("master"), "{text}");
    }
}

#[test]
fn the_host_name_is_that_which_cloud_init_gives() {
    for (data, expected) in [
        ("#cloud-config\nhostname: web-1\n", Some("web-1")),
        (
            "#cloud-config\nfqdn: web-2.example.org\n",
            Some("web-2.example.org"),
        ),
        (
            "#cloud-config\nhostname: web-1\nfqdn: web-2.example.org\n",
            Some("web-1"),
        ),
        (
            "#cloud-config\nhostname: ''\nruncmd: [a]\nruncmd: [b]\n",
            None,
        ),
        ("#cloud-config\nruncmd: [hostname]\n", None),
        ("#!/bin/sh\nhostname: web-1\n", None),
        (
            "## template: jinja\n#cloud-config\nhostname: {{ v1.name }}\n",
            None,
        ),
    ] {
        assert_eq!(host_name(data.as_bytes()).as_deref(), expected, "{data}");
    }
    let two = message(&[
        ("Content-Type: text/cloud-config\n", "hostname: web-1\n"),
        ("Content-Type: text/cloud-config\n", "hostname: web-2\n"),
    ]);
    assert_eq!(host_name(two.as_bytes()).as_deref(), Some("web-2"));
}

#[test]
fn a_section_in_a_list_is_told() {
    let why = why_unread(b"#cloud-config\n- appliance:\n    role: master\n").unwrap();
    assert!(why.contains("it is a list"), "{why}");
}
