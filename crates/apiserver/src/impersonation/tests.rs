use http::{HeaderMap, HeaderName, HeaderValue};

use super::{shown, take};
use crate::authn::User;
use crate::authn::unescape;

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

#[test]
fn headers_name_a_user_and_are_taken_away() {
    let mut map = headers(&[
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "devs"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "u1"),
        ("Impersonate-Extra-Acme.com%2Fscopes", "a"),
        ("Impersonate-Extra-acme.com%2Fscopes", "b"),
        ("Accept", "*/*"),
    ]);
    let wanted = take(&mut map).expect("good headers").expect("a user");
    let extra = [("acme.com/scopes".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into();
    let groups = vec!["devs".to_owned(), "ops".to_owned()];
    assert_eq!(wanted, User { name: "jane".into(), uid: "u1".into(), groups, extra });
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    assert_eq!(take(&mut headers(&[("accept", "*/*")])).expect("good headers"), None);
}

#[test]
fn nobody_becomes_a_part_of_a_user() {
    for (name, value, shown) in [
        (
            "Impersonate-Group",
            "g",
            r#"Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)"#,
        ),
        ("Impersonate-Uid", "u", r#"Name:"", UID:"u", Groups:[]string(nil), Extra:map[string][]string(nil)"#),
    ] {
        let refusal = take(&mut headers(&[(name, value)])).expect_err("no user");
        let expected = format!("requested &user.DefaultInfo{{{shown}}} without impersonating a user name");
        assert_eq!((refusal.code, refusal.message), (400, expected));
    }
}

#[test]
fn keys_are_decoded_or_left() {
    for (key, decoded) in
        [("a%2fb", "a/b"), ("a+b", "a+b"), ("a%", "a%"), ("a%zz", "a%zz"), ("%e2%82", "%e2%82")]
    {
        assert_eq!(unescape(key), decoded);
    }
    let user = User { extra: [("k".into(), vec!["v".into()])].into(), ..User::default() };
    assert!(shown(&user).ends_with(r#"Extra:map[string][]string{"k":[]string{"v"}}}"#));
}
