//! What the help of bundles ends with.

pub const BUNDLE: &str = "\
Examples:
  appliance bundle fetch --bundle my-v1.9
  appliance bundle pack --bundle my-v1.9 -o payload
  appliance bundle list my-appliance

More: appliance help bundles";

pub const FETCH: &str = "\
Examples:
  # once, for artifacts without a published checksum
  appliance bundle lock --bundle v1.9 --trust-on-first-use -o my-v1.9
  appliance bundle fetch --bundle my-v1.9
  appliance bundle fetch --bundle my-v1.9 --mirror gcr.io=https://mirror.example
  HTTPS_PROXY=http://proxy.example:3128 appliance bundle fetch --bundle my-v1.9

More: appliance help bundles";

pub const LOCK: &str = "\
Examples:
  appliance bundle lock --bundle v1.9 --trust-on-first-use -o my-v1.9

More: appliance help bundles";

pub const EXPORT: &str = "\
Examples:
  appliance bundle export -o downloads.tar
  appliance bundle export --bundle my-v1.9 -o my-v1.9.tar

More: appliance help bundles";

pub const IMPORT: &str = "\
Examples:
  appliance bundle import downloads.tar

More: appliance help bundles";

pub const PACK: &str = "\
Examples:
  appliance bundle pack --bundle my-v1.9 -o payload
  appliance bundle pack --bundle my-v1.9 --components ./files -o payload

More: appliance help bundles";

pub const VERIFY: &str = "\
Examples:
  appliance bundle verify my-appliance
  appliance bundle verify my-appliance --bundle my-v1.9
  appliance bundle verify my-appliance --trust-key my.pub -o json

More: appliance help bundles";

pub const LIST: &str = "\
Examples:
  appliance bundle list
  appliance bundle list my-appliance -o json
  appliance bundle list --installed

More: appliance help bundles";

pub const SBOM: &str = "\
Examples:
  appliance bundle sbom my-appliance > sbom.cdx.json

More: appliance help bundles";

pub const REPACK: &str = "\
Examples:
  appliance repack --bundle my-v1.9 -o my-appliance
  appliance repack --bundle my-v1.9 --components ./files -o my-appliance
  appliance repack --bundle my-v1.9 --components ./files --sign-key my.key \\
    -o my-appliance
  appliance repack --payload payload -o my-appliance

Download the components first with `appliance bundle fetch`, or give them with
--components.

More: appliance help bundles";
