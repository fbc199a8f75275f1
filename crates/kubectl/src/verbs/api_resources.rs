//! `api-resources`.

use clap::Args;

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output;
use crate::output::table::Lines;

#[derive(Args)]
pub(crate) struct ApiResources {
    /// Only this group
    #[arg(long)]
    api_group: Option<String>,
    /// Only namespaced ones, or only others
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Only those with all of these verbs
    #[arg(long, value_delimiter = ',')]
    verbs: Vec<String>,
    /// Only those in all of these categories
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// Print no headers
    #[arg(long)]
    no_headers: bool,
    /// wide, or name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for ApiResources {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        let wide = match self.output.as_str() {
            "" | "name" => false,
            "wide" => true,
            other => return Err(Error::said(format!("--output {other} is not available"))),
        };
        let discovery = kube.discovery().await?;
        let preferred = |group: &str| {
            discovery.groups.iter().find(|(name, _)| name == group).and_then(|(_, v)| v.first())
        };
        let mut found: Vec<_> = discovery
            .resources
            .iter()
            .filter(|one| preferred(&one.group) == Some(&one.version) && !one.verbs.is_empty())
            .filter(|one| self.api_group.as_ref().is_none_or(|group| *group == one.group))
            .filter(|one| self.namespaced.is_none_or(|flag| flag == one.namespaced))
            .filter(|one| self.verbs.iter().all(|verb| one.can(verb)))
            .filter(|one| self.categories.iter().all(|category| one.categories.contains(category)))
            .collect();
        found.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        let mut lines = Lines::default();
        if !self.no_headers && self.output != "name" {
            let mut headers = vec!["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"];
            if wide {
                headers.extend(["VERBS", "CATEGORIES"]);
            }
            lines.push(headers);
        }
        for one in found {
            if self.output == "name" {
                lines.push([one.qualified()]);
                continue;
            }
            let mut cells = vec![
                one.plural.clone(),
                one.short_names.join(","),
                one.api_version(),
                one.namespaced.to_string(),
                one.kind.clone(),
            ];
            if wide {
                cells.extend([one.verbs.join(","), one.categories.join(",")]);
            }
            lines.push(cells);
        }
        output::write(&lines.take())
    }
}
