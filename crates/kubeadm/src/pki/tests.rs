use std::os::unix::fs::PermissionsExt as _;

use super::*;

const NOW: jiff::Timestamp = jiff::Timestamp::constant(1_790_000_000, 0);

#[test]
fn a_second_run_changes_nothing_and_keys_are_private() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = Folder::new(dir.path());
    let make = || {
        let authority = folder.authority(NOW).expect("authority");
        let server = Subject::server("kube-apiserver", vec!["kubernetes".into(), "127.0.0.1".into()]);
        folder.ensure("apiserver", &authority, &server, NOW).expect("certificate");
        folder.ensure_service_account_keys().expect("keys");
    };
    make();
    let before: Vec<_> =
        ["ca.crt", "apiserver.crt", "sa.key"].map(|name| fs::read(folder.path(name)).expect("there")).into();
    make();
    let after: Vec<_> =
        ["ca.crt", "apiserver.crt", "sa.key"].map(|name| fs::read(folder.path(name)).expect("there")).into();
    assert_eq!(before, after);
    for name in ["ca.key", "apiserver.key", "sa.key"] {
        let mode = fs::metadata(folder.path(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
