#![allow(clippy::unwrap_used)]
use serde_json::json;

use super::*;

const API: Traffic = Traffic::Tcp(6443, 6443);
const RANGE: Traffic = Traffic::Udp(20000, 40000);

/// The answer for a packet to 192.0.2.11, in one letter: accepted, dropped, or unclear.
fn letter(hooks: &[Hook], traffic: Traffic) -> char {
    let to = Some([192, 0, 2, 11].into());
    match answer(hooks, &Packet { traffic, to }) {
        Answer::Accepted => 'a',
        Answer::Dropped(_) => 'd',
        Answer::Unclear(_) => '?',
    }
}

/// The answers for the API server, for a range of UDP and for tunnels.
fn letters(hooks: &[Hook]) -> String {
    [API, RANGE, Traffic::Tunnel]
        .map(|traffic| letter(hooks, traffic))
        .iter()
        .collect()
}

#[test]
fn rules_of_iptables_are_followed_as_the_kernel_does() {
    let cases = [
        ("", "aaa"),
        ("-A INPUT -i lo -j ACCEPT", "ddd"),
        ("-A INPUT ! -i lo -j ACCEPT", "aaa"),
        ("-A INPUT -i eth0 -j ACCEPT", "???"),
        ("-A INPUT -p tcp -j ACCEPT", "add"),
        ("-A INPUT ! -p tcp -j ACCEPT", "daa"),
        ("-A INPUT -p ipencap -j ACCEPT", "dda"),
        ("-A INPUT -p tcp -m tcp --dport 6443 -j ACCEPT", "add"),
        ("-A INPUT -p tcp -m tcp ! --dport 6443 -j ACCEPT", "ddd"),
        ("-A INPUT -p tcp -m tcp --sport 53 -j ACCEPT", "?dd"),
        (
            "-A INPUT -p udp -m multiport --dports 53,10000:50000 -j ACCEPT",
            "dad",
        ),
        (
            "-A INPUT -p udp -m udp --dport 30000:32767 -j ACCEPT",
            "d?d",
        ),
        (
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "ddd",
        ),
        ("-A INPUT -m state --state NEW,ESTABLISHED -j ACCEPT", "aaa"),
        (
            "-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
            "add",
        ),
        (
            "-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
            "ddd",
        ),
        ("-A INPUT -s 127.0.0.0/8 -j ACCEPT", "ddd"),
        ("-A INPUT -s 192.0.2.0/24 -j ACCEPT", "???"),
        ("-A INPUT -d 192.0.2.0/24 -j ACCEPT", "aaa"),
        ("-A INPUT -d 192.0.2.99/32 -j ACCEPT", "ddd"),
        (
            "-A INPUT -m limit --limit 3/min -j LOG --log-prefix \"-j ACCEPT \"",
            "ddd",
        ),
        (
            "-A INPUT -m comment --comment \"a \\\"b\\\" -j DROP\" -j ACCEPT",
            "aaa",
        ),
        ("-A INPUT -m set --match-set nodes src -j ACCEPT", "???"),
        ("-A INPUT -j NFQUEUE --queue-num 0", "???"),
        (
            "-A INPUT -j own\n-A own -p tcp -j ACCEPT\n-A own -j RETURN",
            "add",
        ),
        (
            "-A INPUT -g own\n-A INPUT -j ACCEPT\n-A own -p tcp -j ACCEPT",
            "add",
        ),
        ("-A INPUT -p udp -j DROP\n-A INPUT -j ACCEPT", "ada"),
        (
            "-A INPUT -j own\n-A INPUT -j ACCEPT\n-A own -m set --match-set x src -j RETURN\n-A own -j DROP",
            "???",
        ),
        (
            "-A INPUT -j KUBE-FIREWALL\n-A KUBE-FIREWALL -j ACCEPT",
            "ddd",
        ),
    ];
    for (rules, expected) in cases {
        let policy = if rules.is_empty() { "ACCEPT" } else { "DROP" };
        let text = format!(
            "*filter\n:INPUT {policy} [0:0]\n:own - [0:0]\n:KUBE-FIREWALL - [0:0]\n{rules}\nCOMMIT\n"
        );
        let found = letters(&iptables::hooks("iptables-save", &text));
        assert_eq!(found, expected, "{rules}");
    }
}

#[test]
fn a_packet_has_to_pass_every_table() {
    let text = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 6443 -j DROP\nCOMMIT\n\
                *filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n";
    assert_eq!(letters(&iptables::hooks("iptables-save", text)), "dda");
}

#[test]
fn chains_that_call_each_other_without_end_are_unclear() {
    let mut text = "*filter\n:INPUT DROP [0:0]\n".to_owned();
    for chain in 0..20 {
        text += &format!(
            ":c{chain} - [0:0]\n-A c{chain} -j c{0}\n-A c{chain} -j c{0}\n",
            (chain + 1) % 20
        );
    }
    text += "-A INPUT -j c0\n";
    assert_eq!(letters(&iptables::hooks("iptables-save", &text)), "???");
}

/// A table with this policy and these rules in its chain `input`, and a chain `own`, a set and a map.
fn table(policy: &str, rules: &[serde_json::Value]) -> String {
    let of = |rule: &serde_json::Value, chain: &str| json!({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 7, "expr": rule}});
    let mut all = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"table": {"family": "inet", "name": "t"}}),
        json!({"set": {"family": "inet", "table": "t", "name": "ports", "elem": [22, {"range": [6000, 7000]}]}}),
        json!({"set": {"family": "inet", "table": "t", "name": "empty"}}),
        json!({"map": {"family": "inet", "table": "t", "name": "m", "elem": [["tcp", {"jump": {"target": "own"}}]]}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "input", "type": "filter", "hook": "input", "policy": policy}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "own"}}),
        of(&json!([{"accept": null}]), "own"),
    ];
    all.extend(rules.iter().map(|rule| of(rule, "input")));
    json!({ "nftables": all }).to_string()
}

#[test]
fn rules_of_nftables_are_followed_as_the_kernel_does() {
    let is = |left: serde_json::Value, right: serde_json::Value| json!({"match": {"op": "==", "left": left, "right": right}});
    let port = |protocol: &str| json!({"payload": {"protocol": protocol, "field": "dport"}});
    let meta = |key: &str| json!({"meta": {"key": key}});
    let accept = || json!({"accept": null});
    let cases = [
        (json!([accept()]), "aaa"),
        (json!([is(meta("iifname"), json!("lo")), accept()]), "ddd"),
        (json!([is(meta("iifname"), json!("eth0")), accept()]), "???"),
        (json!([is(meta("nfproto"), json!("ipv6")), accept()]), "ddd"),
        (
            json!([
                is(meta("l4proto"), json!({"set": ["tcp", "udp"]})),
                accept()
            ]),
            "aad",
        ),
        (
            json!([is(port("tcp"), json!(6443)), {"counter": {"packets": 0}}, accept()]),
            "add",
        ),
        (json!([is(port("tcp"), json!("@ports")), accept()]), "add"),
        (json!([is(port("tcp"), json!("@empty")), accept()]), "ddd"),
        (
            json!([
                is(port("th"), json!({"set": [{"range": [6000, 50000]}]})),
                accept()
            ]),
            "aad",
        ),
        (
            json!([{"match": {"op": "!=", "left": port("tcp"), "right": 22}}, accept()]),
            "add",
        ),
        (
            json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, accept()]),
            "ddd",
        ),
        (
            json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}, accept()]),
            "aaa",
        ),
        (
            json!([
                is(
                    json!({"payload": {"protocol": "ip", "field": "saddr"}}),
                    json!({"prefix": {"addr": "192.0.2.0", "len": 24}})
                ),
                accept()
            ]),
            "???",
        ),
        (
            json!([
                is(
                    json!({"payload": {"protocol": "ip", "field": "daddr"}}),
                    json!("192.0.2.11")
                ),
                accept()
            ]),
            "aaa",
        ),
        (
            json!([
                is(
                    json!({"payload": {"protocol": "icmp", "field": "type"}}),
                    json!("echo-request")
                ),
                accept()
            ]),
            "ddd",
        ),
        (
            json!([
                is(
                    json!({"payload": {"protocol": "ip6", "field": "saddr"}}),
                    json!("fe80::1")
                ),
                accept()
            ]),
            "ddd",
        ),
        (
            json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", accept()], ["invalid", {"drop": null}]]}}}]),
            "ddd",
        ),
        (
            json!([{"vmap": {"key": meta("l4proto"), "data": "@m"}}]),
            "add",
        ),
        (json!([{"limit": {"rate": 3}}, accept()]), "???"),
        (json!([{"xt": {"type": "target", "name": "X"}}]), "???"),
        (json!([{"log": {"prefix": "x"}}]), "ddd"),
        (json!([{"jump": {"target": "own"}}]), "aaa"),
    ];
    for (rule, expected) in cases {
        let text = table("drop", std::slice::from_ref(&rule));
        assert_eq!(letters(&nft::hooks(&text).unwrap()), expected, "{rule}");
    }
    let reject = table("accept", &[json!([{"reject": {"type": "icmpx"}}])]);
    let hooks = nft::hooks(&reject).unwrap();
    assert_eq!(letters(&hooks), "ddd");
    let Answer::Dropped(rule) = answer(
        &hooks,
        &Packet {
            traffic: API,
            to: None,
        },
    ) else {
        panic!("dropped")
    };
    assert!(
        rule.contains("handle 7 of `nft -a list chain inet t input`"),
        "{rule}"
    );
}

#[test]
fn what_is_not_of_this_kind_is_not_read() {
    assert_eq!(nft::hooks("nonsense"), None);
    assert_eq!(nft::hooks("{\"nftables\": []}"), Some(Vec::new()));
    let of_iptables = table("drop", &[])
        .replace("inet", "ip")
        .replace("\"t\"", "\"filter\"");
    assert_eq!(nft::hooks(&of_iptables), Some(Vec::new()));
    let forward = table("drop", &[]).replace("\"hook\":\"input\"", "\"hook\":\"forward\"");
    assert_eq!(nft::hooks(&forward), Some(Vec::new()));
}
