//! Which numeric user and groups a container's process gets: the pod's word,
//! else the image's, names looked up in the image's own `/etc/passwd` and
//! `/etc/group`.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use api::types::core::v1::{PodSecurityContext, SecurityContext};
use containerd_client::types::Mount;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::containerd::RuntimeError;

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// The layers of a container's root file system, uppermost first, as plain
/// directories that can be read without mounting.
#[must_use]
pub fn layers(mounts: &[Mount]) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for mount in mounts {
        if mount.r#type == "bind" {
            layers.push(PathBuf::from(&mount.source));
        }
        for option in &mount.options {
            if let Some(upper) = option.strip_prefix("upperdir=") {
                layers.insert(0, PathBuf::from(upper));
            } else if let Some(lower) = option.strip_prefix("lowerdir=") {
                layers.extend(lower.split(':').map(PathBuf::from));
            }
        }
    }
    layers
}

/// A file's text from the uppermost layer that has it; links cannot lead out of
/// the layer.
fn read(layers: &[PathBuf], path: &str) -> String {
    for layer in layers {
        let Ok(root) = File::open(layer) else { continue };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let Ok(descriptor) = openat2(root.as_fd(), Path::new(path), how) else { continue };
        let mut text = String::new();
        // A bound, because the file is the image's.
        if File::from(descriptor).take(4 << 20).read_to_string(&mut text).is_ok() {
            return text;
        }
    }
    String::new()
}

/// The user that a container runs as.
///
/// # Errors
/// When a name is unknown in the image, or root is forbidden and meant.
pub fn resolve(
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
    image_user: &str,
    layers: &[PathBuf],
) -> Result<User, RuntimeError> {
    let passwd = read(layers, "etc/passwd");
    let group = read(layers, "etc/group");
    resolve_in(pod, container, image_user, &passwd, &group)
}

fn resolve_in(
    pod: Option<&PodSecurityContext>,
    container: Option<&SecurityContext>,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<User, RuntimeError> {
    let as_user = container.and_then(|c| c.run_as_user).or(pod.and_then(|p| p.run_as_user));
    let as_group = container.and_then(|c| c.run_as_group).or(pod.and_then(|p| p.run_as_group));
    let non_root = container.and_then(|c| c.run_as_non_root).or(pod.and_then(|p| p.run_as_non_root));
    let (name, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let wanted = as_user.map(|uid| uid.to_string()).unwrap_or_else(|| name.to_owned());
    if non_root == Some(true) && as_user.is_none() && !wanted.is_empty() && wanted.parse::<u32>().is_err() {
        return Err(RuntimeError::Unfit(format!(
            "container has runAsNonRoot and image has non-numeric user ({wanted}), cannot verify user is non-root"
        )));
    }
    let entry = passwd_entry(passwd, &wanted);
    let uid = match (wanted.parse::<u32>(), &entry) {
        _ if wanted.is_empty() => 0,
        (Ok(uid), _) => uid,
        (Err(_), Some(entry)) => entry.uid,
        (Err(_), None) => {
            return Err(RuntimeError::Unfit(format!("no user {wanted} in the image's /etc/passwd")));
        }
    };
    if non_root == Some(true) && uid == 0 {
        let why = if as_user.is_some() {
            "container's runAsUser breaks non-root policy"
        } else {
            "container has runAsNonRoot and image will run as root"
        };
        return Err(RuntimeError::Unfit(why.to_owned()));
    }
    let gid = match as_group {
        Some(gid) => u32::try_from(gid).unwrap_or_default(),
        None if !image_group.is_empty() && as_user.is_none() => group_id(group, image_group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = Vec::new();
    if pod.and_then(|pod| pod.supplemental_groups_policy.as_deref()) != Some("Strict") {
        groups.extend(entry.iter().flat_map(|entry| memberships(group, &entry.name)));
    }
    let extra =
        pod.into_iter().flat_map(|pod| pod.supplemental_groups.iter().flatten().chain(pod.fs_group.iter()));
    groups.extend(extra.filter_map(|gid| u32::try_from(*gid).ok()));
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

fn passwd_entry(passwd: &str, wanted: &str) -> Option<Entry> {
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        (*name == wanted || *uid == wanted).then(|| {
            Some(Entry { name: (*name).to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })?
    })
}

fn group_id(group: &str, wanted: &str) -> Result<u32, RuntimeError> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    group
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == wanted)
        .and_then(|(_, rest)| rest.split(':').nth(1)?.parse().ok())
        .ok_or_else(|| RuntimeError::Unfit(format!("no group {wanted} in the image's /etc/group")))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members, ..] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web,other\n";

    #[test]
    fn users() {
        let numeric =
            |uid: i64| Some(SecurityContext { run_as_user: Some(uid), ..SecurityContext::default() });
        let cases = [
            (None, "", User { uid: 0, gid: 0, groups: vec![0] }),
            (None, "web", User { uid: 33, gid: 34, groups: vec![34, 50] }),
            (None, "web:logs", User { uid: 33, gid: 50, groups: vec![50] }),
            (None, "7:8", User { uid: 7, gid: 8, groups: vec![8] }),
            (numeric(33), "root", User { uid: 33, gid: 34, groups: vec![34, 50] }),
            (numeric(1000), "web:logs", User { uid: 1000, gid: 0, groups: vec![0] }),
        ];
        for (context, image, expected) in cases {
            let user = resolve_in(None, context.as_ref(), image, PASSWD, GROUP).expect(image);
            assert_eq!(user, expected, "{image}");
        }
        assert!(resolve_in(None, None, "nobody", PASSWD, GROUP).is_err());
        let pod = PodSecurityContext {
            fs_group: Some(2000),
            supplemental_groups: Some(vec![3000]),
            run_as_non_root: Some(true),
            ..PodSecurityContext::default()
        };
        assert!(resolve_in(Some(&pod), None, "", PASSWD, GROUP).is_err(), "root is forbidden");
        assert!(resolve_in(Some(&pod), None, "web", PASSWD, GROUP).is_err(), "a name cannot be verified");
        let user = resolve_in(Some(&pod), None, "33", PASSWD, GROUP).expect("a number can");
        assert_eq!(user.groups, [34, 50, 2000, 3000]);
    }

    #[test]
    fn layers_of_overlay_and_bind() {
        let overlay = Mount {
            r#type: "overlay".to_owned(),
            options: ["workdir=/w", "upperdir=/u", "lowerdir=/b:/a"].map(str::to_owned).into(),
            ..Mount::default()
        };
        assert_eq!(layers(&[overlay]), [PathBuf::from("/u"), PathBuf::from("/b"), PathBuf::from("/a")]);
    }
}
