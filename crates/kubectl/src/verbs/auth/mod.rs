//! `auth`: who one is, and what one may do.

mod can_i;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Verb;
use crate::error::Error;
use crate::kube::Kube;
use crate::output::table::Lines;
use crate::output::{self, Format};

#[derive(Args)]
pub(crate) struct Auth {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Check whether an action is allowed
    CanI(can_i::CanI),
    /// Show the attributes of the user
    Whoami(WhoAmI),
}

#[derive(Args)]
struct WhoAmI {
    /// json, yaml, name
    #[arg(short = 'o', long, default_value = "")]
    output: String,
}

impl Verb for Auth {
    async fn run(self, kube: &Kube) -> Result<(), Error> {
        match self.what {
            What::CanI(can_i) => can_i.run(kube).await,
            What::Whoami(who) => who.run(kube).await,
        }
    }
}

/// Creates a review, whose answer is in its status.
async fn review(kube: &Kube, review: Value) -> Result<Value, Error> {
    let object = api::Object::from_value(review).map_err(|error| Error::said(error.to_string()))?;
    let resource = kube.discovery().await?.of_kind(object.api_version(), object.kind())?;
    let target = resource.target(object.namespace(), "");
    Ok(kube.create(target, &object, &client::WriteOptions::default()).await?.into_value())
}

impl WhoAmI {
    async fn run(&self, kube: &Kube) -> Result<(), Error> {
        let format = Format::parse(&self.output)?;
        let asked = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let answer = review(kube, asked).await?;
        if format.is_table() {
            output::write(&attributes(&answer["status"]["userInfo"]))
        } else {
            output::write(&format.print(&answer, true)?)
        }
    }
}

fn attributes(user: &Value) -> String {
    let list = |value: &Value| {
        let all: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("[{}]", all.join(" "))
    };
    let mut lines = Lines::default();
    lines.push(["ATTRIBUTE", "VALUE"]);
    for (title, field) in [("Username", "username"), ("UID", "uid")] {
        if let Some(text) = user[field].as_str().filter(|text| !text.is_empty()) {
            lines.push([title, text]);
        }
    }
    if user["groups"].as_array().is_some_and(|groups| !groups.is_empty()) {
        lines.push(["Groups".to_owned(), list(&user["groups"])]);
    }
    for (key, value) in user["extra"].as_object().into_iter().flatten() {
        lines.push([format!("Extra: {key}"), list(value)]);
    }
    lines.take()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_shown() {
        let user = json!({"username": "a", "groups": ["x", "y"], "extra": {"k": ["v"]}});
        assert_eq!(
            attributes(&user),
            "ATTRIBUTE   VALUE\nUsername    a\nGroups      [x y]\nExtra: k    [v]\n"
        );
    }
}
