//! The last part of the help pages of rotations. No line is longer than 80 characters.

pub const CERTS_ROTATE_CA: &str = "\
Examples:
  appliance certs rotate-ca --dry-run
  appliance certs rotate-ca
  # a CA of your own
  appliance certs rotate-ca --ca new-ca.pem --ca-key new-ca-key.pem
  # on the other masters and on the workers that are listed
  appliance certs renew
  # then on this master, until it is complete
  appliance certs rotate-ca --continue

Exit codes: 0 complete, or nothing to do; 6 other nodes, or pods, have to follow
first. The output lists them, and says what to run.

More: appliance help certificates";

pub const CERTS_ROTATE_SERVICE_ACCOUNTS: &str = "\
Examples:
  appliance certs rotate-service-accounts --dry-run
  appliance certs rotate-service-accounts
  # on the other masters, then here, until it is complete
  appliance certs rotate-service-accounts --continue

A daily timer continues it on each of several masters.

Exit codes: 0 complete, or nothing to do; 6 other masters, or pods, have to
follow first. The output lists them, and says what to run.

More: appliance help certificates";

pub const SECRETS: &str = "\
Examples:
  appliance secrets show
  appliance secrets rotate

More: appliance help security";

pub const SECRETS_ROTATE: &str = "\
Examples:
  appliance secrets rotate
  appliance secrets rotate --continue   # on the other masters
  appliance secrets rotate -o json

With several masters, each of them has to take every step before the next one
begins. The output lists the masters that have to follow. Run the command there
with --continue, in turn, until it says that the rotation is complete. A daily
timer on each master does the same.

Exit codes: 0 complete, or nothing to do; 6 other masters have to follow first.

More: appliance help security";

pub const SECRETS_SHOW: &str = "\
Examples:
  appliance secrets show
  appliance secrets show -o json

More: appliance help security";
