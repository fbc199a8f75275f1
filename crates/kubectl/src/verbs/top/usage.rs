//! Tables of what nodes and pods use. Pure.

use std::collections::BTreeMap;

use api::Quantity;
use serde_json::Value;

use crate::output::table::Lines;

/// Processors and memory.
#[derive(Clone, Copy, Default)]
struct Used {
    cpu: Quantity,
    memory: Quantity,
}

impl Used {
    fn read(usage: &Value) -> Self {
        let amount = |name: &str| match &usage[name] {
            Value::Null => Quantity::default(),
            value => crate::jsonpath::plain(value).parse().unwrap_or_default(),
        };
        Self { cpu: amount("cpu"), memory: amount("memory") }
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.memory += other.memory;
    }

    fn cpu_text(self) -> String {
        format!("{}m", self.cpu.millis())
    }

    fn memory_text(self) -> String {
        format!("{}Mi", self.memory.units() / (1024 * 1024))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Greatest use first, or by name.
fn sort<T>(rows: &mut [T], by: &str, used: impl Fn(&T) -> Used, name: impl Fn(&T) -> String) {
    match by {
        "cpu" => rows.sort_by_key(|row| std::cmp::Reverse(used(row).cpu)),
        "memory" => rows.sort_by_key(|row| std::cmp::Reverse(used(row).memory)),
        _ => rows.sort_by_key(name),
    }
}

/// Every line ends in a column too, as upstream's do.
fn push(lines: &mut Lines, cells: Vec<String>) {
    lines.push(cells.into_iter().chain([String::new()]));
}

pub(super) fn of_nodes(used: &[Value], nodes: &[Value], field: &str, by: &str, headers: bool) -> String {
    let mut available: BTreeMap<String, Used> = nodes
        .iter()
        .map(|node| (text(&node["metadata"]["name"]), Used::read(&node["status"][field])))
        .collect();
    let mut rows: Vec<(String, Used)> =
        used.iter().map(|one| (text(&one["metadata"]["name"]), Used::read(&one["usage"]))).collect();
    sort(&mut rows, by, |row| row.1, |row| row.0.clone());
    let mut lines = Lines::default();
    if headers {
        let titles = ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"];
        push(&mut lines, titles.map(str::to_owned).to_vec());
    }
    let percent = |used: Quantity, whole: Quantity| {
        let part = if whole.is_zero() { 0.0 } else { used.to_f64() / whole.to_f64() * 100.0 };
        format!("{}%", part.trunc())
    };
    for (name, used) in rows {
        let mut cells = vec![name.clone()];
        match available.remove(&name) {
            Some(whole) => cells.extend([
                used.cpu_text(),
                percent(used.cpu, whole.cpu),
                used.memory_text(),
                percent(used.memory, whole.memory),
            ]),
            None => cells.extend([used.cpu_text(), used.memory_text()]),
        }
        push(&mut lines, cells);
    }
    for name in available.into_keys() {
        let unknown = std::iter::repeat_n("<unknown>".to_owned(), 4);
        push(&mut lines, std::iter::once(name).chain(unknown).collect());
    }
    lines.take()
}

/// What is shown of pods.
pub(super) struct Shown {
    pub(super) namespaces: bool,
    pub(super) containers: bool,
    pub(super) headers: bool,
    pub(super) sum: bool,
}

pub(super) fn of_pods(pods: &[Value], by: &str, shown: &Shown) -> String {
    let containers = |pod: &Value| -> Vec<(String, Used)> {
        let list = pod["containers"].as_array();
        list.into_iter().flatten().map(|one| (text(&one["name"]), Used::read(&one["usage"]))).collect()
    };
    let total = |pod: &Value| {
        let mut total = Used::default();
        containers(pod).into_iter().for_each(|(_, used)| total.add(used));
        total
    };
    let metadata = |pod: &Value, field: &str| text(&pod["metadata"][field]);
    let mut pods: Vec<&Value> = pods.iter().collect();
    sort(
        &mut pods,
        by,
        |pod| total(pod),
        |pod| format!("{}/{}", metadata(pod, "namespace"), metadata(pod, "name")),
    );
    let start = |namespace: String, pod: String| {
        let mut cells = Vec::new();
        if shown.namespaces {
            cells.push(namespace);
        }
        if shown.containers {
            cells.push(pod);
        }
        cells
    };
    let mut lines = Lines::default();
    if shown.headers {
        let mut cells = start("NAMESPACE".into(), "POD".into());
        cells.extend(["NAME", "CPU(cores)", "MEMORY(bytes)"].map(str::to_owned));
        push(&mut lines, cells);
    }
    let mut sum = Used::default();
    for pod in pods {
        let (namespace, name) = (metadata(pod, "namespace"), metadata(pod, "name"));
        sum.add(total(pod));
        let mut rows = if shown.containers { containers(pod) } else { vec![(name.clone(), total(pod))] };
        sort(&mut rows, by, |row| row.1, |row| row.0.clone());
        for (row, used) in rows {
            let mut cells = start(namespace.clone(), name.clone());
            cells.extend([row, used.cpu_text(), used.memory_text()]);
            push(&mut lines, cells);
        }
    }
    if shown.sum {
        let blanks = start(String::new(), String::new());
        let line = |name: &str, cpu: String, memory: String| {
            blanks.iter().cloned().chain([name.to_owned(), cpu, memory]).collect::<Vec<_>>()
        };
        push(&mut lines, line("", "________".into(), "________".into()));
        push(&mut lines, line("", sum.cpu_text(), sum.memory_text()));
    }
    lines.take()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_laid_out() {
        let used = [json!({"metadata": {"name": "a"}, "usage": {"cpu": "150m", "memory": "512Mi"}})];
        let node = |name: &str| json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "2", "memory": "2Gi"}}});
        assert_eq!(
            of_nodes(&used, &[node("a"), node("b")], "allocatable", "", true),
            "NAME   CPU(cores)   CPU(%)      MEMORY(bytes)   MEMORY(%)   \n\
             a      150m         7%          512Mi           25%         \n\
             b      <unknown>    <unknown>   <unknown>       <unknown>   \n"
        );
    }

    #[test]
    fn pods_are_laid_out() {
        let pod = |name: &str, cpu: &str| {
            json!({"metadata": {"name": name, "namespace": "d"}, "containers": [
                {"name": "x", "usage": {"cpu": cpu, "memory": "1Mi"}}, {"name": "y", "usage": {"cpu": "1m", "memory": "2Mi"}}]})
        };
        let pods = [pod("a", "1m"), pod("b", "9m")];
        let plain = Shown { namespaces: false, containers: false, headers: true, sum: true };
        assert_eq!(
            of_pods(&pods, "cpu", &plain),
            "NAME   CPU(cores)   MEMORY(bytes)   \n\
             b      10m          3Mi             \n\
             a      2m           3Mi             \n\
             \u{20}      ________     ________        \n\
             \u{20}      12m          6Mi             \n"
        );
        let all = Shown { namespaces: true, containers: true, headers: false, sum: false };
        assert_eq!(
            of_pods(&pods[..1], "", &all),
            "d     a     x     1m    1Mi   \nd     a     y     1m    2Mi   \n"
        );
    }
}
