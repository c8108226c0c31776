//! What a master tells a node about an upgrade of the cluster.

use appliance::digest::Sha256;
use appliance::join::follow::{Follow, Offer, Reported};
use appliance::join::message::Reason;
use appliance::join::rollout::{NodeStep, Rollout, Rollouts, Stage, Standing};
use rcgen::KeyPair;
use serde_json::json;

use super::bed::Node;
use super::faults::{Direct, NOW, asker, reason};
use super::renewal::{joined, key};

fn plan() -> Rollout {
    let to = json!({
        "appliance": "1", "bundle": "b", "kubernetes": "v1.9.11", "digest": "d", "demonstration": true,
        "role": "master", "profile": "with-ca", "node": "server02", "address": "192.168.1.102"
    });
    Rollout {
        program: Sha256::of(b"appliance"),
        size: 9,
        to: serde_json::from_value(to).unwrap(),
        limit: 600,
        standing: Standing::Running,
        begun: NOW,
    }
}

fn granted() -> NodeStep {
    NodeStep {
        program: plan().program,
        stage: Stage::Granted,
        said: None,
        cordoned: false,
        at: NOW,
    }
}

#[test]
fn a_node_that_proves_its_key_is_told_when_it_is_its_turn_and_reports() {
    let (bed, node) = (Direct::new(), Node::new("server01"));
    let (gate, certificate) = joined(&bed, &node);
    let dir = tempfile::tempdir().unwrap();
    let rollouts = Rollouts::new(dir.path(), None);
    let mut gate = gate.offering(rollouts.clone());
    let authority = gate.cluster().authority.clone();
    let mut ask = |follow: &Follow| gate.follow(&asker(), &certificate, follow.clone(), NOW);
    let mut told = |report: Option<Reported>| {
        let question = Follow::signed(&key(&node), report, NOW).unwrap();
        let offered = ask(&question).unwrap().unwrap();
        offered
            .accepted(&authority, "server01", &question.nonce)
            .unwrap()
    };
    assert_eq!(told(None), None);
    rollouts.set(&plan()).unwrap();
    rollouts.note("server03", &granted()).unwrap();
    assert_eq!(told(None), None);
    rollouts.note("server01", &granted()).unwrap();
    assert_eq!(told(None), Some(Offer::from(&plan())));
    let report = Reported {
        program: plan().program,
        stage: Stage::Done,
        said: None,
    };
    assert_eq!(told(Some(report.clone())), None);
    let stages = rollouts.nodes(&plan()).unwrap();
    assert_eq!(stages["server01"].stage, Stage::Done);
    assert_eq!(stages["server03"].stage, Stage::Granted);

    // Who saw its certificate reports nothing for it.
    let stranger = KeyPair::generate().unwrap();
    let forged = Follow::signed(&stranger, Some(report.clone()), NOW).unwrap();
    assert_eq!(reason(ask(&forged)), Reason::NotYours);
    let changed = Follow {
        report: Some(report),
        ..Follow::signed(&key(&node), None, NOW).unwrap()
    };
    assert_eq!(reason(ask(&changed)), Reason::NotYours);
}
