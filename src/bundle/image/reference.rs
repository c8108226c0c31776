//! Names of images, compared as docker compares them.

/// The registry, under both of its names, and the group that docker leaves away.
const HUBS: [&str; 2] = ["docker.io/", "index.docker.io/"];
const LIBRARY: &str = "library/";

/// The name as docker shows it: without `docker.io/` and `library/`. `docker load` gives an image this
/// name, and finds it by either.
pub fn familiar(name: &str) -> &str {
    let Some(name) = HUBS.iter().find_map(|hub| name.strip_prefix(hub)) else {
        return name;
    };
    name.strip_prefix(LIBRARY).unwrap_or(name)
}

/// Whether both are names of the same image.
pub fn are_same(one: &str, other: &str) -> bool {
    familiar(one) == familiar(other)
}

/// Whether `name` is a tag only: in layouts, some programs leave the rest away.
pub fn is_tag_only(name: &str) -> bool {
    !name.contains(['/', ':'])
}

/// Whether the image called `name` in its file is `reference`. A file may leave away the registry, or all
/// but the tag.
pub fn is_short_for(name: &str, reference: &str) -> bool {
    let end = if is_tag_only(name) { ':' } else { '/' };
    are_same(name, reference)
        || familiar(reference)
            .strip_suffix(name)
            .is_some_and(|start| start.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::{are_same, is_short_for};

    #[test]
    fn names_are_the_same_with_and_without_the_registry_that_docker_leaves_away() {
        for (one, other) in [
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/calico/node:v2.6", "calico/node:v2.6"),
            ("index.docker.io/library/nginx:1", "nginx:1"),
            ("gcr.io/library/nginx:1", "gcr.io/library/nginx:1"),
        ] {
            assert!(are_same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("localhost/nginx:1", "nginx:1"),
            ("gcr.io/library/nginx:1", "nginx:1"),
            ("nginx:1", "nginx:2"),
        ] {
            assert!(!are_same(one, other), "{one} {other}");
        }
        assert!(is_short_for("pause:3.0", "gcr.io/google/pause:3.0"));
        assert!(is_short_for("3.0", "gcr.io/google/pause:3.0"));
        assert!(!is_short_for("0", "gcr.io/google/pause:3.0"));
        assert!(!is_short_for("use:3.0", "gcr.io/google/pause:3.0"));
    }
}
