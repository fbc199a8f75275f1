//! `set image`.

use clap::Args;
use serde_json::Value;

use super::{Which, containers, spec_of, split};
use crate::changes;
use crate::error::Error;
use crate::kube::Kube;

#[derive(Args)]
pub(super) struct Image {
    /// TYPE NAME, or TYPE/NAME, and CONTAINER=IMAGE; * is every container
    words: Vec<String>,
    #[command(flatten)]
    which: Which,
}

impl Image {
    pub(super) async fn run(self, kube: &Kube) -> Result<(), Error> {
        let (words, images) = split(&self.words, |word| word.contains('='));
        if images.is_empty() {
            return Err(Error::said("at least one image update is required"));
        }
        let images = images
            .iter()
            .map(|word| match word.split_once('=') {
                Some((container, image)) if !container.is_empty() && !image.is_empty() => {
                    Ok((container, image))
                }
                _ => Err(Error::said(format!(
                    "invalid argument syntax {word:?}, expected <container>=<image>"
                ))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if images.iter().any(|(container, _)| *container == "*") && images.len() > 1 {
            return Err(Error::said(
                "all containers are already specified by *, but saw more than one container_name=container_image pairs",
            ));
        }
        let infos = self.which.infos(kube, &words).await?;
        changes::change_each(kube, &infos, &self.which.how, |object, info| {
            Ok(change(spec_of(object, info)?, &images)?.then(|| "image updated".to_owned()))
        })
        .await
    }
}

/// Whether anything is new.
fn change(spec: &mut Value, images: &[(&str, &str)]) -> Result<bool, Error> {
    let mut changed = false;
    let mut unknown = Vec::new();
    for (name, image) in images {
        let meant = containers(spec, &["containers", "initContainers"], name);
        if meant.is_empty() {
            unknown.push(Error::said(format!("unable to find container named {name:?}")));
        }
        for container in meant {
            changed |= container["image"] != **image;
            container["image"] = (*image).into();
        }
    }
    Error::of_all(unknown)?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_set() {
        let mut spec = json!({"containers": [{"name": "a", "image": "1"}], "initContainers": [{"name": "b", "image": "1"}]});
        assert!(change(&mut spec, &[("a", "2")]).expect("sets"));
        assert_eq!(spec["initContainers"][0]["image"], "1");
        assert!(change(&mut spec, &[("*", "2")]).expect("sets"));
        assert!(!change(&mut spec, &[("*", "2")]).expect("sets"));
        assert!(change(&mut spec, &[("c", "2")]).is_err());
    }
}
