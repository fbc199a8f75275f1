//! Tables: columns as wide as their widest cell and three spaces, six at
//! least, the last one as it is.

use serde_json::Value;

/// Lines of cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

const PADDING: usize = 3;
const MIN_WIDTH: usize = 6;

impl Lines {
    pub(crate) fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The text; widths grow over calls and are kept, so that the lines of a
    /// watch stay in column.
    pub(crate) fn take(&mut self) -> String {
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                let width = (cell.chars().count() + PADDING).max(MIN_WIDTH);
                match self.widths.get_mut(index) {
                    Some(widest) => *widest = width.max(*widest),
                    None => self.widths.push(width),
                }
            }
        }
        let mut out = String::new();
        for row in self.rows.drain(..) {
            let last = row.len().saturating_sub(1);
            for (index, cell) in row.iter().enumerate() {
                out.push_str(cell);
                if index < last {
                    out.extend(std::iter::repeat_n(' ', self.widths[index] - cell.chars().count()));
                }
            }
            out.push('\n');
        }
        out
    }
}

/// What is shown of a server's table beside its cells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Show {
    pub(crate) wide: bool,
    pub(crate) namespace: bool,
    pub(crate) labels: bool,
    pub(crate) label_columns: Vec<String>,
    /// Put before names, with a slash: `deployment.apps`.
    pub(crate) kind: Option<String>,
    pub(crate) no_headers: bool,
}

/// Adds a server-side table.
pub(crate) fn add(lines: &mut Lines, table: &Value, columns: &Value, show: &Show, headers: bool) {
    let columns = columns.as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<(usize, &str)> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| show.wide || column["priority"].as_i64().unwrap_or_default() == 0)
        .map(|(index, column)| (index, column["name"].as_str().unwrap_or_default()))
        .collect();
    if headers && !show.no_headers {
        let mut cells: Vec<String> = Vec::new();
        if show.namespace {
            cells.push("NAMESPACE".into());
        }
        cells.extend(shown.iter().map(|(_, name)| name.to_uppercase()));
        cells.extend(
            show.label_columns.iter().map(|key| key.rsplit('/').next().unwrap_or(key).to_uppercase()),
        );
        if show.labels {
            cells.push("LABELS".into());
        }
        lines.push(cells);
    }
    for row in table["rows"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = Vec::new();
        let metadata = &row["object"]["metadata"];
        if show.namespace {
            cells.push(metadata["namespace"].as_str().unwrap_or_default().to_owned());
        }
        for (index, name) in &shown {
            let text = cell(&row["cells"][*index]);
            cells.push(match &show.kind {
                Some(kind) if *name == "Name" => format!("{kind}/{text}"),
                _ => text,
            });
        }
        for key in &show.label_columns {
            cells.push(metadata["labels"][key].as_str().unwrap_or("").to_owned());
        }
        if show.labels {
            cells.push(labels(&metadata["labels"]));
        }
        lines.push(cells);
    }
}

/// `a=1,b=2`, or `<none>`.
pub(crate) fn labels(labels: &Value) -> String {
    match labels.as_object() {
        Some(map) if !map.is_empty() => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect();
            pairs.join(",")
        }
        _ => "<none>".into(),
    }
}

fn cell(value: &Value) -> String {
    let text = crate::jsonpath::plain(value);
    match text.split_once(['\n', '\r']) {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}, {"name": "IP", "priority": 1}],
            "rows": [
                {"cells": ["a", 1, "10.0.0.1"], "object": {"metadata": {"namespace": "d", "labels": {"x/app": "w"}}}},
                {"cells": ["longer-name", 2, "10.0.0.2"], "object": {"metadata": {"namespace": "d"}}}]})
    }

    fn print(show: &Show) -> String {
        let table = sample();
        let mut lines = Lines::default();
        add(&mut lines, &table, &table["columnDefinitions"], show, true);
        lines.take()
    }

    #[test]
    fn tables_print_as_kubectls() {
        assert_eq!(print(&Show::default()), "NAME          READY\na             1\nlonger-name   2\n");
        assert_eq!(
            print(&Show { wide: true, namespace: true, ..Show::default() }),
            "NAMESPACE   NAME          READY   IP\nd           a             1       10.0.0.1\n\
             d           longer-name   2       10.0.0.2\n"
        );
        assert_eq!(
            print(&Show {
                labels: true,
                label_columns: vec!["x/app".into()],
                no_headers: true,
                ..Show::default()
            }),
            "a             1     w     x/app=w\nlonger-name   2           <none>\n"
        );
        assert!(print(&Show { kind: Some("pod".into()), ..Show::default() }).contains("\npod/a"));
    }

    #[test]
    fn later_lines_keep_the_columns() {
        let mut lines = Lines::default();
        lines.push(["longer-name", "x"]);
        assert_eq!(lines.take(), "longer-name   x\n");
        lines.push(["a", "y"]);
        assert_eq!(lines.take(), "a             y\n");
    }
}
