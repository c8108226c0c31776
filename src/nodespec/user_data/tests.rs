#![allow(clippy::unwrap_used)]
use super::*;
use base64::Engine;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;

mod others;

const SECTIONED: &str =
    "#cloud-config\npackages: [curl]\nappliance:\n  role: master\n  mtu: 1450\n";
const MIME: &str = "Content-Type: multipart/mixed; boundary=\"==B==\"\nMIME-Version: 1.0\n\n\
    --==B==\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
    Content-Disposition: attachment; filename=\"run.sh\"\n\n#!/bin/sh\necho appliance\n\
    --==B==\nContent-Type: text/cloud-config; charset=\"us-ascii\"\nMIME-Version: 1.0\n\
    Content-Transfer-Encoding: base64\n\
    Content-Disposition: attachment; filename=\"node.yaml\"\n\n@\n--==B==--\n";

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn role(data: &[u8]) -> Option<String> {
    settings(data).unwrap().and_then(|settings| settings.role)
}

fn error(data: &[u8]) -> String {
    format!("{:#}", settings(data).unwrap_err())
}

#[test]
fn finds_the_section_in_every_form_cloud_init_takes() {
    let mime = MIME.replace('@', &base64(SECTIONED));
    let archive = "#cloud-config-archive\n- '#!/bin/sh'\n- type: text/cloud-config\n  content: |\n    #cloud-config\n    appliance: {role: master}\n";
    let jinja = format!("## template: jinja\n{SECTIONED}");
    let quoted = "#cloud-config\n{\"appliance\": {role: master}}\n";
    for form in [SECTIONED, &mime, archive, &jinja, quoted] {
        assert_eq!(role(form.as_bytes()).as_deref(), Some("master"), "{form}");
        assert_eq!(role(&gzip(form.as_bytes())).as_deref(), Some("master"));
    }
}

#[test]
fn what_has_no_section_is_passed_over_whatever_it_is() {
    for other in [
        "",
        "#!/bin/sh\nappliance install --role master\n",
        "#cloud-config\nbroken: [yaml\n",
        "#cloud-config\nruncmd:\n- [appliance, install]\n",
        "#cloud-boothook\nappliance:\n  role: master\n",
        "## template: jinja\n#cloud-config\nhostname: {{ ds.meta_data.name }}\n",
        "#cloud-config\n# appliance\n",
        "#cloud-config\nruncmd:\n- appliance install\nruncmd: [twice]\n",
    ] {
        assert_eq!(settings(other.as_bytes()).unwrap(), None, "{other}");
    }
    assert_eq!(settings(b"MZ\x90\xff appliance").unwrap(), None);
}

#[test]
fn broken_sections_are_located() {
    let text = error(b"#cloud-config\nappliance:\n  rloe: master\n");
    assert!(text.contains("line 3"), "{text}");
    assert!(text.contains("did you mean `role`?"), "{text}");
    let text = error(b"#cloud-config\npassword: Sup3rSecret\nappliance: [x]\n");
    assert!(!text.contains("Sup3rSecret"), "{text}");
    let text = error(b"#cloud-config\nappliance:\n\trole: master\n");
    assert!(text.contains("line 3"), "{text}");
    let text = error(b"#cloud-config\nappliance: {role: \xff}\n");
    assert_eq!(text, "byte 33 is not UTF-8");
    let mime = MIME.replace('@', &base64("#cloud-config\nappliance: [role]\n"));
    assert!(error(mime.as_bytes()).contains("MIME part node.yaml"));
    let jinja =
        "## template: jinja\n#cloud-config\nappliance:\n  role: {{ ds.meta_data.meta.role }}\n";
    assert!(error(jinja.as_bytes()).contains("MIME part of its own"));
}

const FILE: &str = "#cloud-config\nwrite_files:\n- path: /etc/motd\n  content: hi\n\
    - path: /etc/appliance/config.yaml\n  permissions: '0600'\n  content: |\n    role: master\n";

#[test]
fn the_file_that_cloud_init_writes_is_read_before_it_is_written() {
    let found = find(FILE.as_bytes()).unwrap();
    assert_eq!(found.file.unwrap().role.as_deref(), Some("master"));
    assert_eq!(found.section, None);
    let gz = base64::engine::general_purpose::STANDARD.encode(gzip(b"role: single"));
    for (encoding, content) in [
        ("b64", base64("role: single")),
        ("base64", base64("role: single")),
        ("gz+b64", gz),
        ("text/plain", "'role: single'".to_owned()),
    ] {
        let text = format!(
            "#cloud-config\nwrite_files:\n- {{path: /etc/appliance/config.yaml, \
             encoding: {encoding}, content: {content}}}\n"
        );
        assert_eq!(
            role(text.as_bytes()).as_deref(),
            Some("single"),
            "{encoding}"
        );
    }
    let misspelt = FILE.replace("role: master", "rloe: master");
    let text = error(misspelt.as_bytes());
    assert!(
        text.contains("`write_files` /etc/appliance/config.yaml"),
        "{text}"
    );
    assert!(text.contains("did you mean `role`?"), "{text}");
    let appended = FILE.replace("  permissions: '0600'\n", "  append: true\n");
    assert!(error(appended.as_bytes()).contains("`append` and `source` are not supported"));
    let both = format!("{FILE}appliance: {{role: worker, mtu: 1400}}\n");
    let layers: Vec<Layer> = find(both.as_bytes()).unwrap().layers("drive").collect();
    assert_eq!(layers[0].settings.role.as_deref(), Some("master"));
    assert_eq!(
        layers[0].origin("role").to_string(),
        "drive: user-data: /etc/appliance/config.yaml: `role`"
    );
    assert_eq!(layers[1].settings.mtu.as_deref(), Some("1400"));
}

/// A MIME message with these parts: headers and content.
fn message(parts: &[(&str, &str)]) -> String {
    let mut text =
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"B\"\n\n".to_owned();
    for (headers, content) in parts {
        text += &format!("--B\n{headers}\n\n{content}\n");
    }
    text + "--B--\n"
}

const BARE: &str = "appliance:\n  role: master\n";

#[test]
fn the_type_of_a_part_counts_and_then_its_first_line() {
    let typed = |kind: &str, content: &str| message(&[(&format!("Content-Type: {kind}"), content)]);
    let headed = format!("\n \n#Cloud-Config  # ours\n{BARE}");
    for read in [
        typed("text/cloud-config", BARE),
        typed("Text/Cloud-Config; charset=us-ascii", BARE),
        typed("text/plain", &headed),
        typed("text/x-shellscript", &headed),
        message(&[("", &headed)]),
        headed.clone(),
        format!("#cloud-config-archive\n- {{type: text/cloud-config, content: {BARE:?}}}\n"),
        format!("#cloud-config-archive\n- {BARE:?}\n- {{type: text/x-shellscript}}\n"),
    ] {
        assert_eq!(role(read.as_bytes()).as_deref(), Some("master"), "{read}");
        assert_eq!(why_unread(read.as_bytes()), None);
    }
    for (unread, why) in [
        (
            typed("text/plain", BARE),
            "MIME part without a name: its first line is not",
        ),
        (
            typed("application/octet-stream", &headed),
            "its type is application/octet-stream",
        ),
        (
            typed("text/cloud-config-jsonp", BARE),
            "does not read `#cloud-config-jsonp`",
        ),
        (
            headed.replacen('#', "# ", 1),
            "its first line is not spelled `#cloud-config`",
        ),
        (format!("#cloud_config\n{BARE}"), "is not spelled"),
        (
            format!("---\n#cloud-config\n{BARE}"),
            "the line `---` is before",
        ),
        (BARE.to_owned(), "its first line is not `#cloud-config`"),
        (format!("\u{feff}#cloud-config\n{BARE}"), "byte order mark"),
        (base64(&headed), "base64"),
        (
            typed("text/cloud-config", BARE).replace("MIME-Version: 1.0\n", ""),
            "without the header",
        ),
        (
            format!("#cloud-config-archive\n- {{type: text/plain, content: {headed:?}}}\n"),
            "its type is text/plain; remove the type",
        ),
        (
            format!("#cloud-config\nx:\n  {}", BARE.replace('\n', "\n  ")),
            "is below `x`",
        ),
        (
            "#cloud-config\napplaince: {role: master}\n".to_owned(),
            "`applaince` is unknown",
        ),
    ] {
        assert_eq!(settings(unread.as_bytes()).unwrap(), None, "{unread}");
        let told = why_unread(unread.as_bytes()).unwrap_or_default();
        assert!(told.contains(why), "{unread}: {told}");
    }
}

#[test]
fn bytes_that_are_not_text_are_told_if_they_mention_settings() {
    let text = format!("#cloud-config\n{BARE}");
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf16].concat();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let whole = gzip(text.as_bytes());
    let cut = &whole[..whole.len() - 4];
    let twice = gzip(&whole);
    let encoded = base64::engine::general_purpose::STANDARD.encode(&whole);
    for (data, why) in [
        (&utf16[..], "UTF-16"),
        (&marked, "UTF-16"),
        (&big, "UTF-16"),
        (cut, "cut off or damaged"),
        (&whole[..6], "cut off or damaged"),
        (encoded.as_bytes(), "base64"),
    ] {
        assert_eq!(settings(data).unwrap(), None, "{why}");
        let told = why_unread(data).unwrap_or_default();
        assert!(told.contains(why), "{why}: {told}");
        assert!(told.starts_with("user-data mentions `appliance` but is not read, because"));
    }
    assert_eq!(settings(&twice).unwrap(), None);
    for silent in [
        "hello",
        "#!/bin/sh\ncat <<E\nappliance:\nE\n",
        "#cloud-config\nruncmd: [appliance]\n",
    ] {
        assert_eq!(why_unread(silent.as_bytes()), None, "{silent}");
    }
}

#[test]
fn a_part_is_unpacked_only_if_its_type_is_gzip() {
    let packed = base64::engine::general_purpose::STANDARD.encode(gzip(SECTIONED.as_bytes()));
    let typed = |kind: &str| {
        message(&[(
            &format!("Content-Type: {kind}\nContent-Transfer-Encoding: base64"),
            &packed,
        )])
    };
    assert_eq!(
        role(typed("application/gzip").as_bytes()).as_deref(),
        Some("master")
    );
    let other = typed("text/cloud-config");
    assert_eq!(settings(other.as_bytes()).unwrap(), None);
    assert!(
        why_unread(other.as_bytes())
            .unwrap()
            .contains("only if its type is application/gzip")
    );
}

#[test]
fn of_two_sections_the_last_counts_unless_they_are_to_be_merged() {
    let part = |role: &str| format!("appliance: {{role: {role}}}\n");
    let kind = "Content-Type: text/cloud-config";
    let two = message(&[(kind, &part("worker")), (kind, &part("master"))]);
    assert_eq!(role(two.as_bytes()).as_deref(), Some("master"));
    let archive = format!(
        "#cloud-config-archive\n- {:?}\n- {:?}\n",
        part("worker"),
        part("master")
    );
    assert_eq!(role(archive.as_bytes()).as_deref(), Some("master"));
    let how = format!(
        "{}merge_how: dict(recurse_array)+list(append)\n",
        part("master")
    );
    let merged = message(&[(kind, &part("worker")), (kind, &how)]);
    assert!(
        error(merged.as_bytes()).contains("says how to merge"),
        "{merged}"
    );
    let headers = format!("{kind}\nMerge-Type: dict(recurse_array)+list(append)");
    let merged = message(&[(kind, &part("worker")), (&headers, &part("master"))]);
    assert!(
        error(merged.as_bytes()).contains("says how to merge"),
        "{merged}"
    );
    // A later list of files replaces ours, or is appended to it.
    let other = "write_files: [{path: /etc/motd}]\n";
    let replaced = message(&[(kind, FILE), (kind, other)]);
    assert_eq!(role(replaced.as_bytes()), None);
    let appended = format!("{other}merge_how: list(append)+dict(recurse_array)\n");
    let appended = message(&[(kind, FILE), (kind, &appended)]);
    assert_eq!(role(appended.as_bytes()).as_deref(), Some("master"));
}

#[test]
fn a_megabyte_is_the_most_that_is_unpacked() {
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 70_000);
    assert_eq!(error(&bomb), "it unpacks to more than 1048576 bytes");
    assert_eq!(settings(b"\x1f\x8b\x08 cut").unwrap(), None);
}

#[test]
fn a_byte_order_mark_is_read_where_cloud_init_reads_it() {
    let archive =
        "#cloud-config-archive\n- \"\u{feff}#cloud-config\\nappliance: {role: master}\\n\"\n";
    assert_eq!(role(archive.as_bytes()).as_deref(), Some("master"));
    let part = |encoding: &str, body: &str| {
        format!(
            "Content-Type: multipart/mixed; boundary=B\nMIME-Version: 1.0\n\n--B\n\
             Content-Type: text/cloud-config\n{encoding}\n{body}\n--B--\n"
        )
    };
    let text = "\u{feff}#cloud-config\nappliance: {role: master}\n";
    let packed = part("Content-Transfer-Encoding: base64\n", &base64(text));
    assert_eq!(role(packed.as_bytes()).as_deref(), Some("master"));
    let raw = part("", text);
    assert_eq!(role(raw.as_bytes()), None);
    let why = why_unread(raw.as_bytes()).unwrap();
    assert!(why.contains("byte order mark"), "{why}");
}

#[test]
fn a_part_whose_merge_type_has_no_dict_is_lost_and_told() {
    let part = |how: &str| format!("#cloud-config\n{how}\nappliance: {{role: master}}\n");
    for kept in [
        "merge_how: 'dict(recurse_array)+list(append)+str()'",
        "merge_type: 'DICT(replace)+list()'",
        "merge_how: [{name: list, settings: [append]}, {name: dict, settings: [recurse_list]}]",
    ] {
        assert_eq!(
            role(part(kept).as_bytes()).as_deref(),
            Some("master"),
            "{kept}"
        );
    }
    let lost = part("merge_how: 'list(append)+str()'");
    assert_eq!(role(lost.as_bytes()), None);
    let why = why_unread(lost.as_bytes()).unwrap();
    assert!(why.contains("`dict`"), "{why}");
}

#[test]
fn an_archive_without_settings_replaces_the_files_of_the_parts_before() {
    let data = "Content-Type: multipart/mixed; boundary=B\nMIME-Version: 1.0\n\n\
        --B\nContent-Type: text/cloud-config\n\nwrite_files: [{path: /etc/appliance/config.yaml, content: 'role: master'}]\n\
        --B\nContent-Type: text/cloud-config-archive\n\n- \"#cloud-config\\nwrite_files: [{path: /etc/motd}]\"\n--B--\n";
    assert_eq!(role(data.as_bytes()), None);
    let list = br##"["#cloud-config\nappliance: {role: master}\n", "#cloud-config\nwrite_files: [{path: /etc/appliance/config.yaml, content: 'role: worker'}]\n", "#cloud-config\nappliance: {role: single}\n"]"##;
    let settings = vendor_settings(list).unwrap().unwrap();
    assert_eq!(settings.role.as_deref(), Some("worker"));
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("#cloud-config\nappliance: {}", "[".repeat(10_000));
    error(deep.as_bytes());
    let deep = format!("{{\"appliance\": {}", "[".repeat(10_000));
    vendor_settings(deep.as_bytes()).unwrap_err();
}

#[test]
fn vendor_data_says_it_directly_or_through_cloud_init() {
    let of = |settings: Option<Settings>| settings.and_then(|s| s.mtu);
    let direct = br##"{"appliance": {"mtu": 1442}, "other": 1}"##;
    let text = br##"{"cloud-init": "#cloud-config\nappliance:\n  mtu: 1442\n"}"##;
    let object = br##"{"cloud-init": {"appliance": {"mtu": "1442"}}}"##;
    for data in [&direct[..], text, object] {
        assert_eq!(of(vendor_settings(data).unwrap()).as_deref(), Some("1442"));
    }
    let second = br##"{"static": {"appliance": {"mtu": 1442}}, "name": {"x": 1}}"##;
    assert_eq!(
        of(vendor2_settings(second).unwrap()).as_deref(),
        Some("1442")
    );
    let named = br##"{"static": {}, "cloud-init": "#cloud-config\nappliance:\n  mtu: 1442\n"}"##;
    let list = br##"{"cloud-init": ["#!/bin/sh\n", "#cloud-config\nappliance:\n  mtu: 1442\n"]}"##;
    let all = br##""#cloud-config\nappliance:\n  mtu: 1442\n""##;
    let all_list = br##"["#cloud-config\nappliance:\n  mtu: 1442\n"]"##;
    for data in [&named[..], list, all, all_list] {
        for read in [vendor_settings, vendor2_settings] {
            assert_eq!(of(read(data).unwrap()).as_deref(), Some("1442"));
        }
    }
    for other in [
        &b"{}"[..],
        b"[]",
        b"null",
        b"",
        b"[7]",
        br#"{"cloud-init": ""}"#,
    ] {
        assert_eq!(vendor_settings(other).unwrap(), None);
        assert_eq!(vendor2_settings(other).unwrap(), None);
    }
    let error = vendor2_settings(br##"{"static": {"appliance": {"mtu": [1]}}}"##).unwrap_err();
    assert!(format!("{error:#}").starts_with("`static`: `appliance`"));
}
