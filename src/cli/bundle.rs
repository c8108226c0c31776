//! The command line of the commands that build and inspect appliances.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::text;
use crate::bundle::fetch::mirror::Mirror;
use crate::digest::Sha256;

/// Commands that build the payload of an appliance.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Download the artifacts of a bundle and verify their checksums
    ///
    /// The checksums are in bundle.lock. An interrupted download continues where it stopped. Proxies
    /// are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, credentials for registries from the file
    /// that `docker login` writes.
    #[command(after_long_help = text::bundle::FETCH)]
    Fetch(Fetch),
    /// Download, and record sizes and checksums in bundle.lock
    #[command(after_long_help = text::bundle::LOCK)]
    Lock {
        /// What to fetch and how
        #[command(flatten)]
        fetch: Fetch,
        /// Accept the first download of an artifact without a published checksum, and record its
        /// checksum
        #[arg(long)]
        trust_on_first_use: bool,
        /// Write bundle.toml and bundle.lock to this directory [default: the bundle's]
        #[arg(id = "copy", short = 'd', long = "dir", value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Write the downloads into one tar, to carry it to an air-gapped machine
    #[command(after_long_help = text::bundle::EXPORT)]
    Export {
        /// Only what this bundle needs: a directory, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
        /// Tar file to write
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Add a tar that `bundle export` wrote to the cache, and verify its checksums
    #[command(after_long_help = text::bundle::IMPORT)]
    Import {
        /// Tar file to read
        file: PathBuf,
        /// Write the bundle.toml and bundle.lock in the tar to this directory
        #[arg(long, value_name = "DIR")]
        definition: Option<PathBuf>,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
    },
    /// Examine whether an appliance can be built from here
    ///
    /// Asks every source of every artifact that is not in the cache. Downloads and changes nothing. Exit
    /// code 1: an appliance cannot be built from here.
    #[command(after_long_help = text::bundle::DOCTOR)]
    Doctor {
        /// What to examine and how
        #[command(flatten)]
        fetch: Fetch,
        /// Directory with components or their archives
        #[arg(long, value_name = "DIR")]
        components: Option<PathBuf>,
    },
    /// Pack the components of a bundle into one file, the payload
    ///
    /// The same components give the same bytes.
    #[command(after_long_help = text::bundle::PACK)]
    Pack {
        /// Directory of bundle.toml and bundle.lock, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE")]
        bundle: String,
        /// The inputs of the payload
        #[command(flatten)]
        ingredients: Ingredients,
        /// Payload to write; an existing file is replaced
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Verify an appliance or a payload without running it
    ///
    /// Reads every byte of the file and compares it with the checksums that were recorded when it was
    /// packed. Unpacks every component into a temporary directory and verifies it against the payload's
    /// manifest and, with --bundle, against bundle.toml and bundle.lock. Exit code 1: something differs.
    ///
    /// The recorded checksums find damage. Only --sha256, with a checksum from a place that you trust, and
    /// --signature find an attacker who changed the file and its checksums.
    #[command(after_long_help = text::bundle::VERIFY)]
    Verify {
        /// An appliance, or a payload
        file: PathBuf,
        /// Bundle to compare with: a directory, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// What the whole file must match
        #[command(flatten)]
        whole: Whole,
        /// The key that must have signed it
        #[command(flatten)]
        trust: Trust,
    },
    /// List the components of an appliance, a payload, a bundle or this node
    #[command(after_long_help = text::bundle::LIST)]
    List {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
        /// List this bundle: a directory, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["file", "installed"])]
        bundle: Option<String>,
    },
    /// Print the software bill of materials (CycloneDX 1.5, JSON)
    #[command(after_long_help = text::bundle::SBOM)]
    Sbom {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
    },
}

/// What the whole file of an appliance or a payload must match.
#[derive(Args, Debug)]
pub struct Whole {
    /// SHA-256 that the whole file must have, from a place that you trust
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<Sha256>,

    /// Signature of the whole file, which `repack --sign-key` wrote beside it; needs --trust-key
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// The directory of downloads.
#[derive(Args, Clone, Debug)]
pub struct CacheDir {
    /// Cache directory for downloads [default: ~/.cache/appliance]
    #[arg(long = "cache", value_name = "DIR", env = "APPLIANCE_CACHE")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `bundle fetch`.
#[derive(Args, Debug)]
pub struct Fetch {
    /// Directory of bundle.toml and bundle.lock, or the name of a built-in bundle
    #[arg(long, value_name = "BUNDLE")]
    pub bundle: String,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Download the sources below HOST[/PATH] from URL instead; you can repeat this option
    #[arg(long, value_name = "HOST[/PATH]=URL")]
    pub mirror: Vec<Mirror>,

    /// Number of simultaneous downloads
    #[arg(short, long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

/// The inputs of a payload, and the key that signs it.
#[derive(Args, Debug)]
pub struct Ingredients {
    /// Directory with components or their archives; it is searched before the cache
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Sign the payload with this minisign secret key; `repack` also signs the whole file, in
    /// FILE.minisig
    #[arg(long, value_name = "FILE")]
    pub sign_key: Option<PathBuf>,

    /// File with the password of the secret key, if it has one
    #[arg(long, value_name = "FILE", requires = "sign_key")]
    pub sign_password_file: Option<PathBuf>,
}

/// Arguments of `repack`.
#[derive(Args, Debug)]
pub struct Repack {
    /// Directory of bundle.toml and bundle.lock, or the name of a built-in bundle
    #[arg(long, value_name = "BUNDLE", required_unless_present = "payload")]
    pub bundle: Option<String>,

    /// Use this payload of `bundle pack` instead of a bundle
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "components", "sign_key"])]
    pub payload: Option<PathBuf>,

    /// The inputs of the payload
    #[command(flatten)]
    pub ingredients: Ingredients,

    /// Program to build the appliance from [default: this program]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// Appliance to write; an existing program is replaced
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// An appliance, a payload, or this node.
#[derive(Args, Debug)]
pub struct Carrier {
    /// Appliance or payload [default: this program; for the builder: this node]
    #[arg(conflicts_with = "installed")]
    pub file: Option<PathBuf>,

    /// Show what is installed on this node
    #[arg(long)]
    pub installed: bool,
}

/// The key that must have signed a payload.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Minisign public key, or a file with it; refuse a payload it did not sign
    #[arg(long = "trust-key", value_name = "KEY|FILE")]
    pub key: Option<String>,
}
