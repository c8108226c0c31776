//! What the page is made of, as a parser for HTML sees it.

use std::collections::BTreeSet;

use appliance::page::reading::Reading;
use scraper::{ElementRef, Html, Selector};

use super::scenes::{self, HOSTILE};
use super::{get, serve};

fn page_of(reading: Reading) -> Html {
    let answer = get(serve(move || Ok(reading.clone())), "/");
    assert_eq!(answer.status, 200, "{}", answer.head);
    Html::parse_document(&answer.body)
}

fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    page.select(&Selector::parse(selector).unwrap()).collect()
}

fn text(element: ElementRef<'_>) -> String {
    let text: String = element.text().collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn texts(page: &Html, selector: &str) -> Vec<String> {
    all(page, selector).into_iter().map(text).collect()
}

#[test]
fn every_page_is_sound_and_loads_nothing() {
    for (name, reading) in scenes::all() {
        let page = page_of(reading);
        assert!(page.errors.is_empty(), "{name}: {:?}", page.errors);
        assert_eq!(all(&page, "html[lang=en]").len(), 1, "{name}");
        assert_eq!(all(&page, "h1").len(), 1, "{name}");
        assert_eq!(all(&page, "main").len(), 1, "{name}");
        assert_eq!(all(&page, "style").len(), 1, "{name}");
        for element in all(&page, "*") {
            let tag = element.value().name();
            assert!(
                ![
                    "script", "img", "iframe", "object", "embed", "form", "base", "svg", "input"
                ]
                .contains(&tag),
                "{name}: {tag}"
            );
            for (attribute, value) in element.value().attrs() {
                assert!(
                    !attribute.starts_with("on") && attribute != "style",
                    "{name}: {attribute}={value}"
                );
                let leads =
                    ["src", "srcset", "action", "formaction", "poster"].contains(&attribute);
                assert!(!leads, "{name}: {attribute}={value}");
                if attribute == "href" {
                    let is_own = value.starts_with(['/', '#']) && !value.starts_with("//");
                    assert!(is_own || value.starts_with("data:"), "{name}: {value}");
                }
            }
        }
        let style = texts(&page, "style").concat();
        assert!(
            !style.contains("url(") && !style.contains("@import"),
            "{name}"
        );
    }
}

#[test]
fn tables_and_sections_have_names_and_every_link_leads_somewhere() {
    for (name, reading) in scenes::all() {
        let page = page_of(reading);
        let ids: Vec<&str> = all(&page, "[id]")
            .iter()
            .filter_map(|one| one.value().id())
            .collect();
        let unique: BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{name}: {ids:?}");
        for section in all(&page, "section[aria-labelledby]") {
            let label = section.value().attr("aria-labelledby").unwrap();
            assert!(ids.contains(&label), "{name}: {label}");
        }
        for link in all(&page, "a[href^='#']") {
            let target = &link.value().attr("href").unwrap()[1..];
            assert!(ids.contains(&target), "{name}: {target}");
        }
        assert_eq!(all(&page, "table:not([aria-label])").len(), 0, "{name}");
        assert_eq!(
            all(
                &page,
                "thead th:not([scope=col]), tbody th:not([scope=row])"
            )
            .len(),
            0,
            "{name}"
        );
        let columns = Selector::parse("thead th").unwrap();
        let rows = Selector::parse("tbody tr").unwrap();
        for table in all(&page, "table") {
            let wide = table.select(&columns).count();
            for row in table.select(&rows) {
                let spans = row.child_elements().map(|cell| {
                    cell.value()
                        .attr("colspan")
                        .map_or(1, |span| span.parse().unwrap())
                });
                assert_eq!(spans.sum::<usize>(), wide, "{name}: {}", text(row));
            }
        }
    }
}

#[test]
fn hostile_text_is_shown_as_it_is() {
    let page = page_of(scenes::hostile());
    let escaped = |text: &str| {
        text.replace('\u{202e}', "\\u{202e}")
            .replace('\u{1b}', "\\u{1b}")
            .replace('\0', "\\u{0}")
    };
    let shown = escaped(HOSTILE);
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for selector in [
        "title",
        "h1",
        "tbody th",
        "tbody td",
        "section.bad li",
        "section.busy",
        ".events li",
        "pre",
    ] {
        let texts = texts(&page, selector);
        assert!(
            texts.iter().any(|text| text.contains(&shown)),
            "{selector}: {texts:?}"
        );
    }
}

#[test]
fn states_are_words() {
    let marks =
        |reading| -> BTreeSet<String> { texts(&page_of(reading), ".mark").into_iter().collect() };
    let of = |words: &[&str]| -> BTreeSet<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    };
    assert_eq!(
        marks(scenes::healthy()),
        of(&[
            "The node is healthy",
            "healthy",
            "ready",
            "ready, takes no new pods",
            "ok",
            "up",
            "available",
            "loaded",
            "backup",
            "done",
        ])
    );
    assert_eq!(
        marks(scenes::install()),
        of(&["The machine is becoming a node", "under way"])
    );
    let degraded = marks(scenes::degraded());
    for word in [
        "The node is not healthy",
        "not healthy",
        "problem",
        "not connected",
        "not complete",
    ] {
        assert!(degraded.contains(word), "{word}: {degraded:?}");
    }
}

#[test]
fn every_problem_is_at_the_top_once_and_long_tables_are_short() {
    let page = page_of(scenes::degraded());
    let problems = texts(&page, "section.bad li");
    assert_eq!(
        problems
            .iter()
            .map(|text| text.split(':').next().unwrap())
            .collect::<Vec<_>>(),
        [
            "service etcd",
            "service kube-apiserver",
            "certificate etcd",
            "room /",
            "BGP peer server04"
        ],
        "{problems:?}"
    );
    let many = page_of(scenes::many());
    let nodes = "section[aria-labelledby=nodes]";
    assert_eq!(
        texts(&many, &format!("{nodes} summary")),
        ["198 more without a problem"]
    );
    let direct = format!("{nodes} > table > tbody > tr");
    assert_eq!(all(&many, &direct).len(), 3);
    assert_eq!(all(&many, &format!("{nodes} tbody tr")).len(), 201);
}

#[test]
fn a_run_shows_how_far_it_is() {
    let page = page_of(scenes::install());
    let progress = all(&page, "progress");
    let of = |name| progress[0].value().attr(name);
    assert_eq!((of("value"), of("max")), (Some("41"), Some("91")));
    assert!(texts(&page, "section.busy")[0].contains("Step 41 of 91: start kube-calico"));
}
