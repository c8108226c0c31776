//! Takes components out of their artifacts: members of archives, images in archives, and files in images.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result};

use super::archive;
use super::definition::Source;
use super::image::saved::Saved;
use super::image::{self, Layered};
use super::manifest::Kind;

/// The content of a component.
pub enum Content<'a> {
    /// The bytes of a file.
    File(&'a mut dyn Read),
    /// An image.
    Image(&'a dyn Layered),
}

/// Passes the content of each of `components`, which all have a `member`, to `take`: out of the archive at
/// `path`, which is read once. Temporary files go to the directory `scratch`.
pub fn of_archive(
    path: &Path,
    components: &[&Source],
    scratch: &Path,
    mut take: impl FnMut(&Source, Content<'_>) -> Result<()>,
) -> Result<()> {
    let mut wanted: Vec<&str> = components
        .iter()
        .filter_map(|component| component.member.as_deref())
        .collect();
    wanted.dedup();
    archive::visit(path, &wanted, |name, _, content| {
        let of = components.iter().copied();
        let of = of.filter(|component| component.member.as_deref() == Some(name));
        let of: Vec<&Source> = of.collect();
        let is_plain = |one: &Source| one.kind != Kind::Image && one.image_file.is_none();
        if let [one] = of.as_slice()
            && is_plain(one)
        {
            return take(one, Content::File(content));
        }
        let mut file = tempfile::tempfile_in(scratch)?;
        io::copy(content, &mut file)?;
        for one in of {
            if is_plain(one) {
                file.rewind()?;
                take(one, Content::File(&mut file))?;
            } else {
                let saved = Saved::open(file.try_clone()?, scratch)?;
                let image = saved.choose(one.reference.as_deref(), scratch)?;
                of_image(&image, one, scratch, &mut take)?;
            }
        }
        Ok(())
    })
    .with_context(|| path.display().to_string())
}

/// Passes the content of `component` to `take`: the image, or its file in the image.
pub fn of_image(
    image: &dyn Layered,
    component: &Source,
    scratch: &Path,
    take: &mut dyn FnMut(&Source, Content<'_>) -> Result<()>,
) -> Result<()> {
    let Some(path) = &component.image_file else {
        return take(component, Content::Image(image));
    };
    let mut file = tempfile::tempfile_in(scratch)?;
    image::copy_file(image, path, &mut file)?;
    file.rewind()?;
    take(component, Content::File(&mut file))
}

impl Content<'_> {
    /// Writes the content to a new file at `path`; an image as a tarball with the name `reference`.
    pub fn write(self, path: &Path, reference: Option<&str>) -> Result<()> {
        let mut file = File::create_new(path)?;
        match self {
            Content::File(reader) => {
                io::copy(reader, &mut file)?;
            }
            Content::Image(layers) => {
                let reference = reference.context("an image without a reference")?;
                image::write_archive(layers, reference, &mut file)?;
            }
        }
        Ok(())
    }
}
