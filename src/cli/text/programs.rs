//! Examples of the bundle's programs.

pub const KUBECTL: &str = "\
Examples:
  appliance kubectl get nodes
  appliance kubectl get pods --all-namespaces -o wide
  appliance kubectl get --help     # the help of kubectl

Begin with a command of kubectl: what stands before it belongs to appliance.

More: appliance help kubectl";

pub const ETCDCTL: &str = "\
Examples:
  appliance etcdctl member list
  ETCDCTL_API=2 appliance etcdctl ls /calico

Begin with a command of etcdctl: what stands before it belongs to appliance.

More: appliance help troubleshooting";

pub const CALICOCTL: &str = "\
Examples:
  appliance calicoctl node status
  appliance calicoctl get ippool -o yaml

Begin with a command of calicoctl: what stands before it belongs to appliance.

More: appliance help troubleshooting";

pub const LOGS: &str = "\
Examples:
  appliance logs
  appliance logs docker kube-calico --since -1h
  appliance logs install --follow

More: appliance help troubleshooting";
