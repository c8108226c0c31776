//! The command line of what builds appliances and looks into them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Output, text};
use crate::bundle::fetch::mirror::Mirror;

/// Building what an appliance carries.
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
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
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
        output: PathBuf,
    },
    /// Add a tar that `bundle export` wrote to the cache, and verify its checksums
    #[command(after_long_help = text::bundle::IMPORT)]
    Import {
        /// Tar file to read
        file: PathBuf,
        /// Where downloads are kept
        #[command(flatten)]
        cache: CacheDir,
    },
    /// Pack the components of a bundle into one file, the payload
    ///
    /// The same components give the same bytes.
    #[command(after_long_help = text::bundle::PACK)]
    Pack {
        /// Directory of bundle.toml and bundle.lock, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE")]
        bundle: String,
        /// What the payload is packed from
        #[command(flatten)]
        ingredients: Ingredients,
        /// Payload to write; an existing file is replaced
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Verify an appliance or a payload without running it
    ///
    /// Unpacks every file into a temporary directory and verifies it against the payload's manifest
    /// and, with --bundle, against bundle.toml and bundle.lock. Exit code 1: something differs.
    #[command(after_long_help = text::bundle::VERIFY)]
    Verify {
        /// An appliance, or a payload
        file: PathBuf,
        /// Bundle to compare with: a directory, or the name of a built-in bundle
        #[arg(long, value_name = "BUNDLE")]
        bundle: Option<String>,
        /// Whose signature it must have
        #[command(flatten)]
        trust: Trust,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the components of an appliance, a payload or this node
    #[command(after_long_help = text::bundle::LIST)]
    List {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print the software bill of materials (CycloneDX 1.5, JSON)
    #[command(after_long_help = text::bundle::SBOM)]
    Sbom {
        /// Where to look
        #[command(flatten)]
        what: Carrier,
    },
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

    /// Download from URL what bundle.toml has below HOST[/PATH]; you can repeat this option
    #[arg(long, value_name = "HOST[/PATH]=URL")]
    pub mirror: Vec<Mirror>,

    /// Number of simultaneous downloads
    #[arg(short, long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub jobs: u8,
}

/// What a payload is packed from, and who signs it.
#[derive(Args, Debug)]
pub struct Ingredients {
    /// Directory with components or their archives; it is searched before the cache
    #[arg(long, value_name = "DIR")]
    pub components: Option<PathBuf>,

    /// Where downloads are kept
    #[command(flatten)]
    pub cache: CacheDir,

    /// Sign the payload with this minisign secret key
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

    /// What the payload is packed from
    #[command(flatten)]
    pub ingredients: Ingredients,

    /// Program to build the appliance from [default: this program]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,

    /// Appliance to write; an existing program is replaced
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What carries a bundle.
#[derive(Args, Debug)]
pub struct Carrier {
    /// Appliance or payload [default: this program; for the builder: this node]
    #[arg(conflicts_with = "installed")]
    pub file: Option<PathBuf>,

    /// Show what is installed on this node
    #[arg(long)]
    pub installed: bool,
}

/// Whose signature a payload must have.
#[derive(Args, Clone, Debug, Default)]
pub struct Trust {
    /// Minisign public key, or a file with it; refuse a payload it did not sign
    #[arg(long = "trust-key", value_name = "KEY|FILE")]
    pub key: Option<String>,
}
