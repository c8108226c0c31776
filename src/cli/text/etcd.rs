//! Examples of `etcd`.

pub const ETCD: &str = "\
Examples:
  appliance etcd status
  appliance etcd maintain

More: appliance help operations";

pub const STATUS: &str = "\
Examples:
  appliance etcd status
  appliance etcd status -o json

Exit code 3: a member does not answer, or there is an alarm.

More: appliance help operations";

pub const MAINTAIN: &str = "\
Examples:
  appliance etcd maintain
  systemctl start appliance-etcd   # the unit that a timer runs daily, with --if-due

More: appliance help operations";
