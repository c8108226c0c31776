//! The page in a browser: laid out on a laptop and a phone, light and dark. The pictures are for people; the test
//! compares no pixels.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::browser::Browser;
use super::{scenes, serve};
use crate::at_work;
use crate::site::SMALL;
use crate::vms::address;

/// A laptop and a phone, in pixels.
const WINDOWS: [(u32, u32); 2] = [(1280, 800), (390, 844)];
/// The least contrast between text and what is behind it (WCAG 2, level AA).
const CONTRAST: f64 = 4.5;

/// What sticks out of the window at the right, and the least contrast of any text with its background.
const LAYOUT: &str = r"
const parts = color => color.match(/[\d.]+/g).map(Number);
const light = color => {
    const [r, g, b] = parts(color).map(value => {
        value /= 255;
        return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
    for (; element; element = element.parentElement) {
        const color = getComputedStyle(element).backgroundColor;
        if (parts(color)[3] !== 0) return color;
    }
    return 'rgb(255, 255, 255)';
};
document.querySelectorAll('details').forEach(one => one.open = true);
let least = 21;
const out = [];
for (const element of document.body.querySelectorAll('*')) {
    const box = element.getBoundingClientRect();
    if (box.right > innerWidth + 1 || box.left < -1) out.push(element.outerHTML.slice(0, 200));
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own) continue;
    const [text, ground] = [light(getComputedStyle(element).color), light(behind(element))];
    least = Math.min(least, (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05));
}
return {
    out, least,
    wide: document.documentElement.scrollWidth - innerWidth,
    ground: light(getComputedStyle(document.body).backgroundColor),
    title: document.title,
};
";

#[test]
#[ignore = "needs Chromium: make test-page"]
fn every_scene_fits_every_window() {
    let pictures = pictures();
    let browser = Browser::start();
    for (name, scene) in scenes::all() {
        let address = serve(move || Ok(scene.clone()));
        let server = format!("http://{address}/");
        for (width, height) in WINDOWS {
            for scheme in ["light", "dark"] {
                let place = format!("{name} {width} {scheme}");
                browser.window((width, height), scheme);
                browser.open(&server);
                let picture = browser.picture();
                let file = pictures.join(format!("{name}-{width}-{scheme}.png"));
                fs::write(file, &picture).unwrap();
                assert_eq!(size(&picture).0, width, "{place}");
                let layout = browser.run(LAYOUT);
                assert_eq!(layout["out"], json!([]), "{place}");
                assert_eq!(layout["wide"], 0, "{place}");
                let of = |key: &str| layout[key].as_f64().unwrap();
                assert!(of("least") >= CONTRAST, "{place}: {layout}");
                assert_eq!(of("ground") > 0.5, scheme == "light", "{place}: {layout}");
                assert_ne!(layout["title"], "broken", "{place}");
                assert_eq!(browser.console(), Vec::<Value>::new(), "{place}");
                let requests = browser.requests();
                assert!(requests.contains(&server), "{place}: {requests:?}");
                for url in requests {
                    assert!(url == server || url.starts_with("data:"), "{place}: {url}");
                }
            }
        }
    }
}

/// Width and height of a PNG.
fn size(png: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

/// Serves the page on a node, and prints the answer to a browser's request, as soon as the node has answered.
const SERVED: &str = r#"bash -c '
systemd-run --quiet --unit appliance-page /usr/local/bin/appliance serve-status
until [[ $answer == *"200 OK"* ]]; do
    exec 3<>/dev/tcp/127.0.0.1/6480 || continue
    printf "GET /?still HTTP/1.1\r\nHost: localhost\r\n\r\n" >&3
    answer=$(cat <&3)
done 2>/dev/null
systemctl stop appliance-page
echo "$answer"'"#;

#[test]
#[ignore = "boots virtual machines; docs/status-page.sh runs it"]
fn the_page_of_a_cluster() {
    let site = &SMALL;
    let mut bed = site.bed(|token| {
        let master = address(site.master);
        format!("  master: {master}\n  join: {{token: {token}, ttl: 2h, uses: 1}}\n")
    });
    bed.switch_on(&site.nodes());
    bed.wait_for_bring_up();
    bed.wait_until_healthy();
    at_work::everything_is_available(site, &mut bed);
    let answer = bed.shell(site.master, SERVED);
    let (_, page) = answer.split_once("<!DOCTYPE").unwrap();
    let file = pictures().join("cluster.html");
    fs::write(&file, format!("<!DOCTYPE{page}")).unwrap();
    let browser = Browser::start();
    browser.window(WINDOWS[0], "light");
    browser.open(&format!("file://{}", file.display()));
    fs::write(pictures().join("cluster.png"), browser.picture()).unwrap();
    let title = browser.run("return document.title");
    assert_eq!(title, format!("Healthy – {}", site.master));
}

/// The directory of the pictures.
fn pictures() -> PathBuf {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("out/page");
    fs::create_dir_all(&pictures).unwrap();
    pictures
}
