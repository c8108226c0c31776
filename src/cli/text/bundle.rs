//! The last part of the help of commands for bundles.

pub const BUNDLE: &str = "\
Examples:
  appliance bundle fetch --bundle my-v1.9.11
  appliance bundle pack --bundle my-v1.9.11 --file payload
  appliance bundle list my-appliance

More: appliance help bundles";

pub const FETCH: &str = "\
Examples:
  appliance bundle fetch --bundle v1.9.11
  appliance bundle fetch --bundle v1.9.11 --mirror gcr.io=https://mirror.example
  HTTPS_PROXY=http://proxy.example:3128 appliance bundle fetch --bundle v1.9.11

More: appliance help bundles";

pub const LOCK: &str = "\
Examples:
  appliance bundle lock --bundle v1.9.11 --dir my-v1.9.11
  # accept artifacts without a published checksum
  appliance bundle lock --bundle my-v1.9.11 --trust-on-first-use

More: appliance help bundles";

pub const EXPORT: &str = "\
Examples:
  appliance bundle export --file downloads.tar
  appliance bundle export --bundle my-v1.9.11 --file my-v1.9.11.tar

More: appliance help bundles";

pub const IMPORT: &str = "\
Examples:
  appliance bundle import downloads.tar
  appliance bundle import my-v1.9.11.tar --definition my-v1.9.11

More: appliance help bundles";

pub const DOCTOR: &str = "\
Examples:
  appliance bundle doctor --bundle v1.9.11
  appliance bundle doctor --bundle my-v1.9.11 -o json

More: appliance help bundles";

pub const PACK: &str = "\
Examples:
  appliance bundle pack --bundle my-v1.9.11 --file payload
  appliance bundle pack --bundle my-v1.9.11 --components ./files --file payload

More: appliance help bundles";

pub const VERIFY: &str = "\
Examples:
  appliance bundle verify my-appliance
  appliance bundle verify my-appliance --bundle my-v1.9.11
  appliance bundle verify my-appliance \\
    --sha256 \"$(cut -c -64 my-appliance.sha256)\"
  appliance bundle verify my-appliance --trust-key my.pub \\
    --signature my-appliance.minisig

More: appliance help bundles";

pub const LIST: &str = "\
Examples:
  appliance bundle list
  appliance bundle list my-appliance -o json
  appliance bundle list --bundle v1.9.11
  appliance bundle list --installed

More: appliance help bundles";

pub const SBOM: &str = "\
Examples:
  appliance bundle sbom my-appliance > sbom.cdx.json

More: appliance help bundles";

pub const REPACK: &str = "\
Examples:
  appliance repack --bundle my-v1.9.11 --file my-appliance
  appliance repack --bundle my-v1.9.11 --components ./files --file my-appliance
  appliance repack --bundle my-v1.9.11 --components ./files --sign-key my.key \\
    --file my-appliance
  appliance repack --payload payload --file my-appliance

Download the components first with `appliance bundle fetch`, or give them with
--components.

More: appliance help bundles";
