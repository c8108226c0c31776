//! The command line of what builds appliances and looks into them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Output;
use crate::bundle::fetch::mirror::Mirror;

/// Building what an appliance carries.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Download every artifact of a bundle into the cache, each held to bundle.lock
    ///
    /// A download that was cut goes on where it stopped. Proxies are taken from HTTPS_PROXY,
    /// HTTP_PROXY and NO_PROXY; credentials for registries from what `docker login` left.
    #[command(after_long_help = FETCH_EXAMPLES)]
    Fetch(Fetch),
    /// Fetch, and write to bundle.lock what became known: sizes, and what is inside archives
    Lock {
        /// What to fetch and how
        #[command(flatten)]
        fetch: Fetch,
        /// Believe the first download of what nobody published a checksum for, and note its own
        #[arg(long)]
        trust_on_first_use: bool,
        /// Write bundle.toml and bundle.lock to this directory [default: that of the bundle]
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Write the cache, or a bundle's part of it, as one tar to carry over an air gap
    Export {
        /// Only what this bundle needs: a directory, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
        /// The tar to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Add what `bundle export` wrote to the cache; every file is compared with its digest
    Import {
        /// The tar to read
        file: PathBuf,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
    },
    /// Pack a bundle's components into a payload, one file: the same files give the same bytes
    Pack {
        /// The directory of bundle.toml and bundle.lock, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: String,
        /// What the payload is packed from
        #[command(flatten)]
        ingredients: Ingredients,
        /// The payload to write; replaced if it is there
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check an appliance or a payload, without running it
    ///
    /// Every file is unpacked to a temporary directory and held to the payload's own
    /// manifest, and, where a bundle is given, to its bundle.toml and bundle.lock. Ends with 1
    /// if anything differs.
    Verify {
        /// An appliance, or a payload
        file: PathBuf,
        /// The bundle it should hold: a directory, or a known bundle's name
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Whose signature it has to have
        #[command(flatten)]
        trust: Trust,
        /// How to print the findings
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List what an appliance, a payload or this node carries
    List {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the software bill of materials (CycloneDX 1.5, JSON)
    Sbom {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
    },
}

const FETCH_EXAMPLES: &str = "\
Examples:
  appliance bundle lock --bundle v1.9 --trust-on-first-use -o mine   once, for what has no checksum
  appliance bundle fetch --bundle mine
  appliance bundle fetch --bundle mine --mirror gcr.io=https://registry.example
  HTTPS_PROXY=http://proxy.example:3128 appliance bundle fetch --bundle mine";

/// The directory of downloads.
#[derive(Args, Clone, Debug)]
pub struct CacheDir {
    /// Where downloads are kept, for all bundles [default: ~/.cache/appliance]
    #[arg(long = "cache", value_name = "DIR", env = "APPLIANCE_CACHE")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `bundle fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// The directory of bundle.toml and bundle.lock, or a known bundle's name
    #[arg(long, value_name = "BUNDLE")]
    pub bundle: String,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Ask URL for what has an address that begins with HOST[/PATH]; may be given several times
    #[arg(long, value_name = "HOST[/PATH]=URL")]
    pub mirror: Vec<Mirror>,

    /// How many artifacts to fetch at once
    #[arg(short, long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

/// What a payload is packed from, and who signs it.
#[derive(Args, Debug)]
pub struct Ingredients {
    /// A directory with files or archives of components, looked at before the cache
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Sign the payload with this minisign secret key
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// The file with that key's password, where it has one
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub sign_password_file: Option<PathBuf>,
}

/// Arguments of `repack`.
#[derive(Args, Debug)]
pub struct Repack {
    /// The directory of bundle.toml and bundle.lock, or a known bundle's name
    #[arg(long, value_name = "BUNDLE", required_unless_present = "payload")]
    pub bundle: Option<String>,

    /// Take this payload, packed before, in the place of a bundle
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "components", "sign_key"])]
    pub payload: Option<PathBuf>,

    /// What the payload is packed from
    #[command(flatten)]
    pub ingredients: Ingredients,

    /// The program to make an appliance of [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// The appliance to write; a program that is there is replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What carries a bundle.
#[derive(Args, Debug)]
pub struct Carrier {
    /// An appliance or a payload [default: this program; in the builder, this node]
    #[arg(conflicts_with = "installed")]
    pub file: Option<PathBuf>,

    /// Look at what is installed on this node
    #[arg(long)]
    pub installed: bool,
}

/// Whose signature a payload has to have.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Refuse a payload that this minisign public key, or the one in this file, did not sign
    #[arg(long = "trust-key", value_name = "KEY|FILE")]
    pub key: Option<String>,
}
