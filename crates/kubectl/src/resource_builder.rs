//! From the words, files and selectors of a command line to the objects that
//! it means.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Object;
use clap::Args;
use serde_json::Value;

use crate::discovery::{Discovery, Resource};
use crate::error::Error;
use crate::kube::{Info, Kube};

/// `-f` and `-R`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Files {
    /// Files or directories with objects; - is standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) filenames: Vec<String>,
    /// Descend into directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// `-l` and `--field-selector`.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selectors {
    /// Only objects with these labels
    #[arg(short = 'l', long, default_value = "")]
    pub(crate) selector: String,
    /// Only objects with these fields
    #[arg(long, default_value = "")]
    pub(crate) field_selector: String,
}

/// A resource, and one object of it or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) resource: Arc<Resource>,
    pub(crate) name: Option<String>,
}

/// Reads `TYPE`, `TYPE NAME...`, `TYPE/NAME...`, `TYPE,TYPE`, and categories.
pub(crate) fn read_words(discovery: &Discovery, words: &[String]) -> Result<Vec<Wanted>, Error> {
    if words.iter().any(|word| word.contains('/')) {
        return words
            .iter()
            .map(|word| match word.split_once('/') {
                Some((kind, name)) if !kind.is_empty() && !name.is_empty() && !name.contains('/') => {
                    Ok(Wanted { resource: discovery.find(kind)?, name: Some(name.to_owned()) })
                }
                Some(_) => Err(Error::said(
                    "arguments in resource/name form must have a single resource and name",
                )),
                None => Err(Error::said("there is no need to specify a resource type as a separate argument when passing arguments in \
                     resource/name form (e.g. 'kubectl get resource/<resource_name>' instead of \
                     'kubectl get resource resource/<resource_name>'".to_string())),
            })
            .collect();
    }
    let Some((kinds, names)) = words.split_first() else { return Ok(Vec::new()) };
    let mut resources = Vec::new();
    for word in kinds.split(',').filter(|word| !word.is_empty()) {
        match discovery.find(word) {
            Ok(resource) => resources.push(resource),
            Err(error) => match discovery.category(word) {
                several if !several.is_empty() => resources.extend(several),
                _ => return Err(error),
            },
        }
    }
    let mut wanted = Vec::new();
    for resource in resources {
        if names.is_empty() {
            wanted.push(Wanted { resource, name: None });
        } else {
            wanted.extend(
                names.iter().map(|name| Wanted { resource: resource.clone(), name: Some(name.clone()) }),
            );
        }
    }
    Ok(wanted)
}

/// The objects in files, lists taken apart, with where each belongs.
pub(crate) async fn from_files(kube: &Kube, files: &Files) -> Result<Vec<Info>, Error> {
    let mut found = Vec::new();
    for (source, text) in read_files(files)? {
        let documents = api::yaml::parse_all(&text)
            .map_err(|error| Error::said(format!("error parsing {source}: {}", chain(&error))))?;
        for document in documents {
            for object in objects(document).map_err(|why| Error::said(format!("{source}: {why}")))? {
                found.push(locate(kube, object, &source).await?);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::said("no objects passed to apply"));
    }
    Ok(found)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn objects(document: Value) -> Result<Vec<Object>, String> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut map) if is_list && map.get("items").is_some_and(Value::is_array) => {
            let Some(Value::Array(items)) = map.remove("items") else { return Ok(Vec::new()) };
            let nested: Result<Vec<_>, _> = items.into_iter().map(objects).collect();
            Ok(nested?.into_iter().flatten().collect())
        }
        other => Object::from_value(other).map(|object| vec![object]).map_err(|error| error.to_string()),
    }
}

async fn locate(kube: &Kube, mut object: Object, source: &str) -> Result<Info, Error> {
    if object.kind().is_empty() {
        return Err(Error::said(format!("error validating {source:?}: error validating data: kind not set")));
    }
    if object.api_version().is_empty() {
        return Err(Error::said(format!(
            "error validating {source:?}: error validating data: apiVersion not set"
        )));
    }
    let resource = kube.discovery().await?.of_kind(object.api_version(), object.kind()).map_err(|_| {
        Error::said(format!(
            "resource mapping not found for name: {:?} namespace: {:?} from {source:?}: no matches for kind {:?} in \
             version {:?}\nensure CRDs are installed first",
            object.name(),
            object.namespace(),
            object.kind(),
            object.api_version()
        ))
    })?;
    let mut namespace = String::new();
    if resource.namespaced {
        match (kube.demanded_namespace(), object.namespace()) {
            (Some(demanded), own) if !own.is_empty() && own != demanded => {
                return Err(Error::said(format!(
                    "the namespace from the provided object {own:?} does not match the namespace {demanded:?}. You \
                     must pass '--namespace={own}' to perform this operation."
                )));
            }
            (_, "") => {
                namespace = kube.namespace()?;
                object.set_at(&["metadata", "namespace"], namespace.clone());
            }
            (_, own) => namespace = own.to_owned(),
        }
    }
    let name = object.name().to_owned();
    Ok(Info { resource, namespace, name, object: Some(object), source: Some(source.to_owned()) })
}

fn read_files(files: &Files) -> Result<Vec<(String, String)>, Error> {
    let mut texts = Vec::new();
    for name in &files.filenames {
        if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            texts.push(("STDIN".to_owned(), text));
        } else if name.starts_with("http://") || name.starts_with("https://") {
            return Err(Error::said(format!(
                "{name}: URLs are not read; download the file and pass its path"
            )));
        } else {
            let path = Path::new(name);
            let absent = || Error::said(format!("the path {name:?} does not exist"));
            let about = std::fs::metadata(path).map_err(|_| absent())?;
            let mut paths = Vec::new();
            if about.is_dir() {
                walk(path, files.recursive, &mut paths)?;
            } else {
                paths.push(path.to_owned());
            }
            for path in paths {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| Error::said(format!("read {}: {error}", path.display())))?;
                texts.push((path.display().to_string(), text));
            }
        }
    }
    Ok(texts)
}

fn walk(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if deep {
                walk(&path, deep, found)?;
            }
        } else if path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|one| end == *one)) {
            found.push(path);
        }
    }
    Ok(())
}

/// What a verb on existing objects acts on.
pub(crate) struct Selection<'a> {
    pub(crate) words: &'a [String],
    pub(crate) files: &'a Files,
    pub(crate) labels: &'a str,
    pub(crate) fields: &'a str,
    pub(crate) all: bool,
    pub(crate) all_namespaces: bool,
}

impl<'a> Selection<'a> {
    /// Objects by name, or in files.
    pub(crate) fn new(words: &'a [String], files: &'a Files) -> Self {
        Self { words, files, labels: "", fields: "", all: false, all_namespaces: false }
    }

    /// Also those with these labels and fields.
    pub(crate) fn select(self, selectors: &'a Selectors) -> Self {
        Self { labels: &selectors.selector, fields: &selectors.field_selector, ..self }
    }
}

/// The objects that are meant. Those found by a list come with their content,
/// those from files with the file's; names are not looked up.
pub(crate) async fn resolve(kube: &Kube, selection: &Selection<'_>) -> Result<Vec<Info>, Error> {
    if !selection.files.filenames.is_empty() {
        return from_files(kube, selection.files).await;
    }
    let wanted = read_words(kube.discovery().await?, selection.words)?;
    if wanted.is_empty() {
        return Err(Error::said("You must provide one or more resources by argument or filename."));
    }
    if selection.all_namespaces && wanted.iter().any(|one| one.name.is_some()) {
        return Err(Error::said("a resource cannot be retrieved by name across all namespaces"));
    }
    let namespace = if selection.all_namespaces { String::new() } else { kube.namespace()? };
    let mut found = Vec::new();
    for Wanted { resource, name } in wanted {
        match name {
            Some(name) => {
                let namespace = if resource.namespaced { namespace.clone() } else { String::new() };
                found.push(Info { resource, namespace, name, object: None, source: None });
            }
            None if selection.all || !selection.labels.is_empty() || !selection.fields.is_empty() => {
                if !resource.can("list") {
                    continue;
                }
                let objects =
                    kube.list(resource.target(&namespace, ""), selection.labels, selection.fields).await?;
                found.extend(objects.into_iter().map(|object| Info {
                    resource: resource.clone(),
                    namespace: object.namespace().to_owned(),
                    name: object.name().to_owned(),
                    object: Some(object),
                    source: None,
                }));
            }
            None => return Err(Error::said("resource(s) were provided, but no name was specified")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::tests::sample;

    fn read(words: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match read_words(&sample(), &words) {
            Ok(wanted) => Ok(wanted.into_iter().map(|one| (one.resource.plural.clone(), one.name)).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn words_mean_objects() {
        let some = |kind: &str, name: &str| (kind.to_owned(), Some(name.to_owned()));
        let whole = |kind: &str| (kind.to_owned(), None);
        assert_eq!(read(&["po"]), Ok(vec![whole("pods")]));
        assert_eq!(read(&["po", "a", "b"]), Ok(vec![some("pods", "a"), some("pods", "b")]));
        assert_eq!(read(&["pod/a", "svc/b"]), Ok(vec![some("pods", "a"), some("services", "b")]));
        assert_eq!(read(&["pods,svc"]), Ok(vec![whole("pods"), whole("services")]));
        assert_eq!(read(&["all"]), Ok(vec![whole("pods"), whole("services"), whole("deployments")]));
        assert!(read(&["pod/a", "b"]).is_err_and(|text| text.contains("resource/name form")));
        assert!(read(&["pod/"]).is_err());
        assert!(read(&["nonsense"]).is_err());
    }

    #[test]
    fn lists_are_taken_apart() {
        let list = serde_json::json!({"kind": "List", "items": [{"kind": "A"}, {"kind": "BList", "items": [{"kind": "B"}]}]});
        let kinds: Vec<_> = objects(list).expect("objects").iter().map(|one| one.kind().to_owned()).collect();
        assert_eq!(kinds, ["A", "B"]);
        assert!(objects(serde_json::json!([1])).is_err());
    }
}
