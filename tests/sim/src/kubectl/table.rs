//! The tables of kubectl: columns at least ten characters wide, with three blanks between them.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A table's header and rows.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table; each row has as many cells as the header.
    pub fn new(head: Vec<&'static str>, rows: Vec<Vec<String>>) -> Self {
        Self { head, rows }
    }

    /// Puts `KIND/` before each name.
    pub fn prefix(&mut self, kind: &str) {
        for name in self.rows.iter_mut().filter_map(|row| row.first_mut()) {
            *name = format!("{kind}/{name}");
        }
    }

    /// Inserts a column before the others.
    pub fn precede(&mut self, head: &'static str, cells: Vec<String>) {
        self.head.insert(0, head);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.insert(0, cell);
        }
    }

    /// Adds a column after the others.
    pub fn follow(&mut self, head: &'static str, cells: Vec<String>) {
        self.head.push(head);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(cell);
        }
    }

    /// The table as text.
    pub fn text(&self, with_head: bool) -> String {
        let head: Vec<String> = self.head.iter().map(|&name| name.to_owned()).collect();
        let rows = with_head.then_some(&head).into_iter().chain(&self.rows);
        let rows: Vec<&Vec<String>> = rows.collect();
        let width = |column: usize| {
            let widest = rows.iter().map(|row| row[column].chars().count()).max();
            (widest.unwrap_or(0) + 3).max(10)
        };
        let mut text = String::new();
        for row in &rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < row.len() {
                    let filled = cell.chars().count();
                    text.extend(std::iter::repeat_n(' ', width(column) - filled));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// `get componentstatuses`.
pub fn component_statuses(items: &[Value]) -> Table {
    let row = |item: &Value| {
        let condition = &item["conditions"][0];
        let state = match condition["status"].as_str() {
            Some("True") => "Healthy",
            Some("False") => "Unhealthy",
            _ => "Unknown",
        };
        vec![
            text(&item["metadata"]["name"]),
            state.to_owned(),
            text(&condition["message"]),
            text(&condition["error"]),
        ]
    };
    Table {
        head: vec!["NAME", "STATUS", "MESSAGE", "ERROR"],
        rows: items.iter().map(row).collect(),
    }
}

/// A text, without the line breaks at its end.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().trim_end().to_owned()
}

/// Whether a node is ready and accepts pods.
pub fn node_state(node: &Value) -> String {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "Ready");
    let state = match ready.and_then(|condition| condition["status"].as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node["spec"]["unschedulable"] == true {
        return format!("{state},SchedulingDisabled");
    }
    state.to_owned()
}

/// The roles in a node's labels.
pub fn roles(node: &Value) -> String {
    let labels = node["metadata"]["labels"].as_object();
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(label, _)| label.strip_prefix("node-role.kubernetes.io/"))
        .collect();
    if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.join(",")
    }
}

/// The age of an object.
pub fn age(created: &Value) -> String {
    let created = created
        .as_str()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let Some(created) = created else {
        return "<unknown>".to_owned();
    };
    let seconds = (OffsetDateTime::now_utc() - created).whole_seconds().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_laid_out_as_kubectl_does() {
        let items = [json!({
            "metadata": {"name": "controller-manager"},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        })];
        assert_eq!(
            component_statuses(&items).text(true),
            "NAME                 STATUS    MESSAGE   ERROR\n\
             controller-manager   Healthy   ok        \n"
        );
        let mut table = Table::new(vec!["NAME", "AGE"], vec![vec!["a".into(), "1s".into()]]);
        table.prefix("sa");
        table.precede("NAMESPACE", vec!["kube-system".into()]);
        assert_eq!(
            table.text(true),
            "NAMESPACE     NAME      AGE\nkube-system   sa/a      1s\n"
        );
    }

    #[test]
    fn a_node_without_a_ready_condition_is_not_ready() {
        let node =
            |status: &str| json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert_eq!(node_state(&node("True")), "Ready");
        assert_eq!(node_state(&node("Unknown")), "NotReady");
        assert_eq!(node_state(&json!({})), "Unknown");
    }
}
