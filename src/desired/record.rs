//! What a run that makes this node writes, as its record.

use super::{Content, Desired, File, Link};
use crate::digest::Sha256;
use crate::records::written::{Written, WrittenFile, WrittenLink, octal};

impl Desired {
    /// The record of a node that has everything.
    pub fn record(&self) -> Written {
        let files = self.files.iter();
        let links = self.links.iter();
        let directories = self.directories.iter();
        Written {
            files: files
                .map(|file| (file.path.clone(), file.record()))
                .collect(),
            directories: directories
                .map(|directory| (directory.path.clone(), octal(directory.mode)))
                .collect(),
            links: links
                .map(|link| (link.path.clone(), of_link(link)))
                .collect(),
            modules: self.modules.iter().cloned().collect(),
            sysctls: self.sysctls.iter().cloned().collect(),
            users: self.users.iter().map(|&user| user.to_owned()).collect(),
            ..Written::default()
        }
    }
}

impl File {
    fn record(&self) -> WrittenFile {
        let sha256 = Sha256::of(self.content.bytes());
        match self.content {
            Content::Block(_) => WrittenFile::part(sha256),
            Content::Whole(_) | Content::Secret(_) => WrittenFile::whole(self.mode, sha256),
        }
    }
}

fn of_link(link: &Link) -> WrittenLink {
    WrittenLink {
        target: link.target.clone(),
        yields: link.yields,
    }
}
