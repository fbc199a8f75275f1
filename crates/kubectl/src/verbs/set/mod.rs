//! `set`: images, variables, resources, accounts and selectors of objects.

mod env;
mod image;
mod resources;
mod selector;
mod serviceaccount;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Verb;
use crate::changes::How;
use crate::error::Error;
use crate::kube::{Info, Kube};
use crate::pods;
use crate::resource_builder::{self, Files, Selection};

#[derive(Args)]
pub(crate) struct Set {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Update the images of containers
    Image(image::Image),
    /// Update the environment of containers
    Env(env::Env),
    /// Update the requests and limits of containers
    Resources(resources::Resources),
    /// Update the service account of pods
    #[command(alias = "sa")]
    Serviceaccount(serviceaccount::ServiceAccount),
    /// Set the selector of a service
    Selector(selector::SetSelector),
}

/// Which objects, and how they are written.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    files: Files,
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    selector: String,
    /// All objects of the type
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    how: How,
}

impl Which {
    async fn infos(&self, kube: &Kube, words: &[String]) -> Result<Vec<Info>, Error> {
        if words.is_empty() && self.files.filenames.is_empty() {
            return Err(Error::said(
                "one or more resources must be specified as <resource> <name> or <resource>/<name>",
            ));
        }
        let selection =
            Selection { labels: &self.selector, all: self.all, ..Selection::new(words, &self.files) };
        resource_builder::resolve(kube, &selection).await
    }
}

impl Verb for Set {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::Image(image) => image.run(kube).await,
            What::Env(env) => env.run(kube).await,
            What::Resources(resources) => resources.run(kube).await,
            What::Serviceaccount(account) => account.run(kube).await,
            What::Selector(selector) => selector.run(kube).await,
        }
    }
}

/// The pod specification of an object, or why it has none.
fn spec_of<'a>(object: &'a mut Value, info: &Info) -> Result<&'a mut Value, Error> {
    pods::spec_of(object).filter(|spec| spec.is_object()).ok_or_else(|| {
        Error::said(format!(
            "{} {:?}: the object is not a pod or does not have a pod template",
            info.resource.kind, info.name
        ))
    })
}

/// Whether a container is meant: by name, or by a pattern with `*`.
fn is_meant(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => match name.strip_prefix(start) {
            None => false,
            Some(tail) if rest.is_empty() => !tail.contains('/'),
            Some(tail) => {
                (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| is_meant(rest, &tail[at..]))
            }
        },
    }
}

/// The containers that a pattern means, of these fields.
fn containers<'a>(spec: &'a mut Value, fields: &[&str], pattern: &str) -> Vec<&'a mut Value> {
    let Some(map) = spec.as_object_mut() else { return Vec::new() };
    map.iter_mut()
        .filter(|(field, _)| fields.contains(&field.as_str()))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .filter(|container| is_meant(pattern, container["name"].as_str().unwrap_or_default()))
        .collect()
}

/// Splits words into those that name objects and the rest, from the first of
/// the rest on.
fn split(words: &[String], is_rest: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let first = words.iter().position(|word| is_rest(word)).unwrap_or(words.len());
    (words[..first].to_vec(), words[first..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::is_meant;

    #[test]
    fn patterns_mean_containers() {
        let table = [
            ("*", "web", true),
            ("web", "web", true),
            ("w*b", "web", true),
            ("w*x", "web", false),
            ("a", "b", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(is_meant(pattern, name), expected, "{pattern} {name}");
        }
    }
}
