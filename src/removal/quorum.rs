//! Whether a member may leave etcd's cluster. Pure.

/// A member of etcd, as seen before it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Its identifier, in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How many members the cluster has, with it.
    pub members: usize,
    /// The names of the other members that are healthy.
    pub healthy: Vec<String>,
}

impl Membership {
    /// Why it may not leave: the members that stay would have no majority, and the cluster would stop.
    pub fn why_not(&self) -> Option<String> {
        let stay = self.members.saturating_sub(1);
        let needed = match stay {
            0 => 0,
            stay => stay / 2 + 1,
        };
        let healthy = self.healthy.len();
        (healthy < needed).then(|| {
            let named = match healthy {
                0 => "none".to_owned(),
                _ => self.healthy.join(", "),
            };
            format!(
                "without this member, etcd has {stay} members and needs {needed} that are healthy; it has \
                 {healthy} ({named}). The cluster would stop: no write, no read"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Membership;

    #[test]
    fn a_member_leaves_only_if_a_majority_of_the_others_is_healthy() {
        for (members, healthy, may) in [
            (1, 0, true),
            (2, 0, false),
            (2, 1, true),
            (3, 1, false),
            (3, 2, true),
            (5, 2, false),
            (5, 3, true),
        ] {
            let membership = Membership {
                id: "a".to_owned(),
                name: "server02".to_owned(),
                members,
                healthy: vec!["other".to_owned(); healthy],
            };
            assert_eq!(membership.why_not().is_none(), may, "{members} {healthy}");
        }
    }
}
