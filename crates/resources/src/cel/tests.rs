//! Expressions, and what becomes of them.

use serde_json::json;

use super::*;

fn known(name: &str) -> Option<Type> {
    Some(match name {
        "object" | "x" => Type::Dyn,
        "self" => Type::object([
            ("name".to_owned(), Type::Text),
            ("n".to_owned(), Type::Int),
            ("tags".to_owned(), Type::list(Type::Text)),
        ]),
        _ => return None,
    })
}

fn evaluate(source: &str, budget: &Budget) -> Result<Value, String> {
    let object = json!({
        "a": 1, "f": 1.5, "s": "text", "l": [3, 1, 2], "m": {"k": "v", "n": null}, "namespace": "ns",
        "words": ["b", "a", "b"],
    });
    let own = json!({"name": "web", "n": 3, "tags": ["x", "y"]});
    let variables =
        [("object", Value::from_json(&object)), ("self", Value::from_json(&own)), ("x", Value::Int(7))];
    let program = Program::compile(source, &known)?;
    program.evaluate(&variables, budget).map_err(|error| error.to_string())
}

fn run(source: &str) -> Result<Value, String> {
    evaluate(source, &Budget::default())
}

#[track_caller]
fn all_true(sources: &[&str]) {
    for source in sources {
        assert_eq!(run(source), Ok(Value::Bool(true)), "{source}");
    }
}

#[test]
fn the_language() {
    all_true(&[
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 % 4 == 3 && -7 / 2 == -3",
        "0x10 == 16 && 3u == uint(3) && 1.5e1 == 15.0 && -9223372036854775808 < 0",
        "1 < 1.5 && 2u > 1 && 1.0 <= 1",
        r#""a\n\x41\u00e9" == 'a\nAé' && r'\d' == "\\d" && b'abc' == bytes('abc') && """a"b""" == 'a"b'"#,
        "true ? 'a' == 'a' : 1 / 0 == 0",
        "(1 / 0 == 0) || true",
        "!((1 / 0 == 0) && false)",
        "has(object.a) && !has(object.zzz) && has(object.m.n)",
        "object.m['k'] == 'v' && object.l[0] == 3 && 'k' in object.m && 3 in object.l && !(9 in object.l)",
        "object.namespace == 'ns'",
        "object.l.all(i, i > 0) && object.l.exists(i, i == 2) && object.l.exists_one(i, i == 2)",
        "object.l.map(i, i * 2) == [6, 2, 4] && object.l.filter(i, i > 1) == [3, 2]",
        "object.l.map(i, i > 1, i * 2) == [6, 4]",
        "object.m.all(k, k in ['k', 'n'])",
        "object.l.exists(i, i / 0 == 1 || i == 2)",
        "[1, 2].all(i, v, v == i + 1) && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
        "[1, 2].transformList(i, v, i > 0, v * 10) == [20] && {'a': 1}.transformMapEntry(k, v, {v: k}) == {1: 'a'}",
        "{'a': 1, 2: 'b'}[2] == 'b' && {'a': 1}.a == 1",
        "cel.bind(y, x + 1, y * y) == 64",
        "object.?zzz.?more.orValue('none') == 'none' && object.?m.k.orValue('') == 'v'",
        "object[?'a'].hasValue() && object.l[?9].orValue(0) == 0 && [?optional.of(1), ?optional.none()] == [1]",
        "object.?a.optMap(v, v + 1).orValue(0) == 2 && optional.none().or(optional.of(1)).value() == 1",
        "{?'a': optional.none(), 'b': 1} == {'b': 1} && !optional.ofNonZeroValue('').hasValue()",
        "type(1) == int && type('') == string && type([]) == list && type(null) == null_type",
        "self.tags.size() == 2 && size(self.name) == 3 // a comment",
        "string(1.5) == '1.5' && int('12') == 12 && double(1) == 1.0 && string(1e21) == '1e+21' && bool('true')",
    ]);
}

#[test]
fn texts_lists_and_expressions() {
    all_true(&[
        "'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo') && 'hello'.matches('^h.*o$')",
        "'héllo'.charAt(1) == 'é' && 'héllo'.size() == 5 && 'héllo'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3",
        "'hello'.indexOf('l', 3) == 3 && 'hello'.lastIndexOf('l', 2) == 2 && 'hello'.indexOf('z') == -1",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('') == ['a', 'b']",
        "['a', 'b'].join('-') == 'a-b' && 'aXbX'.replace('X', '') == 'ab' && 'aXbX'.replace('X', 'y', 1) == 'aybX'",
        "'Hello'.lowerAscii() == 'hello' && 'a'.upperAscii() == 'A' && ' a '.trim() == 'a' && 'abc'.substring(1) == 'bc'",
        "'abc'.substring(0, 2) == 'ab' && 'abc'.reverse() == 'cba' && strings.quote('a') == '\"a\"'",
        "'abc 123 45'.find('[0-9]+') == '123' && 'abc 123 45'.findAll('[0-9]+') == ['123', '45']",
        "'abc 123 45'.findAll('[0-9]+', 1) == ['123'] && 'abc'.find('x') == ''",
        "'%s is %d or %.2f (%x, %b%%)'.format(['x', 3, 1.5, 255, 5]) == 'x is 3 or 1.50 (ff, 101%)'",
        "'%s'.format([[1, 'a', {'k': true}]]) == '[1, a, {k: true}]' && '%e'.format([1500.0]) == '1.500000e+03'",
        "[1, 2, 3].isSorted() && !object.l.isSorted() && object.l.sum() == 6 && object.l.min() == 1 && object.l.max() == 3",
        "object.words.indexOf('b') == 0 && object.words.lastIndexOf('b') == 2 && ['b', 'a'].indexOf('z') == -1",
        "sets.contains([1, 2, 3], [1, 2]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
        "[1] + [2] == [1, 2] && 'a' + 'b' == 'ab'",
    ]);
}

#[test]
fn kubernetes_libraries() {
    all_true(&[
        "url('https://u:p@h.x.io:8080/p?q=1&q=2').getHost() == 'h.x.io:8080'",
        "url('https://[::1]:80/p').getHostname() == '::1' && url('https://h:80/p').getPort() == '80'",
        "url('https://h/p?q=1&q=2').getQuery()['q'] == ['1', '2'] && url('/a/b').getEscapedPath() == '/a/b'",
        "isURL('https://h') && !isURL('no url') && url('HTTPS://h').getScheme() == 'https'",
        "ip('127.0.0.1').isLoopback() && ip('::1').family() == 6 && isIP('1.2.3.4') && !isIP('1.2.3')",
        "ip('10.0.0.1').isGlobalUnicast() && ip('169.254.0.1').isLinkLocalUnicast() && !isIP('::ffff:1.2.3.4')",
        "ip.isCanonical('::1') && !ip.isCanonical('0::1')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')",
        "!cidr('10.0.0.0/8').containsCIDR('11.0.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "cidr('10.0.0.0/8').prefixLength() == 8 && cidr('10.0.0.1/8').ip() == ip('10.0.0.1') && !isCIDR('x')",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('50k').add(20) == quantity('50020')",
        "quantity('1').sub(quantity('500m')).compareTo(quantity('0.5')) == 0 && quantity('-1').sign() == -1",
        "isQuantity('1.5Mi') && !isQuantity('x') && quantity('2k').asInteger() == 2000 && !quantity('1m').isInteger()",
        "!format.dns1123Label().validate('ok').hasValue() && format.dns1123Label().validate('No').hasValue()",
        "format.named('uuid').value().validate('x').value() == ['does not match the UUID format']",
        "!format.named('no such').hasValue()",
        "duration('1h30m') == duration('90m') && string(duration('1m')) == '60s' && duration('1.5s').getMilliseconds() == 500",
        "timestamp('2024-02-29T10:20:30Z').getFullYear() == 2024 && timestamp('2024-02-29T10:20:30Z').getMonth() == 1",
        "timestamp('2024-02-29T10:20:30Z').getDayOfWeek() == 4 && timestamp('2024-01-01T00:00:00Z').getHours('-02:00') == 22",
        "timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
    ]);
}

#[test]
fn evaluations_that_fail() {
    for (source, why) in [
        ("object.zzz == 1", "no such key: zzz"),
        ("object.l[9] == 1", "index out of bounds: 9"),
        ("1 / (x - 7) == 0", "division by zero"),
        ("9223372036854775807 + x > 0", "integer overflow"),
        ("-(-9223372036854775807 - 1) > 0", "integer overflow"),
        ("object.a + object.s == 1", "no such overload"),
        ("object.s.k == 1", "no such overload"),
        ("'abc'.substring(5) == ''", "index out of range: 5"),
        ("'a'.matches('(')", "error parsing regexp: unclosed group"),
        ("[].min() == 1", "min called on empty list"),
        (
            "quantity('').isInteger()",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("duration('1y') == duration('1s')", "time: invalid duration \"1y\""),
    ] {
        assert_eq!(run(source), Err(why.to_owned()), "{source}");
    }
}

#[test]
fn sources_that_do_not_compile() {
    for (source, why) in [
        ("self.zzz == 1", "ERROR: <input>:1:5: undefined field 'zzz'\n | self.zzz == 1\n | ....^"),
        ("nope", "ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^"),
        (
            "self.n + 'a' == 1",
            "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n | self.n + 'a' == 1\n | .......^",
        ),
        (
            "self.name.startsWith(1)",
            "ERROR: <input>:1:21: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.name.startsWith(1)\n | ....................^",
        ),
        (
            "self.n.all(i, true)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.n.all(i, true)\n | ....^",
        ),
        ("foo(1)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(1)\n | ...^"),
        ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>'\n | 1 +\n | ...^"),
        (
            "\n  self.n.x",
            "ERROR: <input>:2:9: type 'int' does not support field selection\n |   self.n.x\n | ........^",
        ),
        (
            "'a' == 1",
            "ERROR: <input>:1:5: found no matching overload for '_==_' applied to '(string, int)'\n | 'a' == 1\n | ....^",
        ),
    ] {
        assert_eq!(run(source), Err(why.to_owned()), "{source}");
    }
}

#[test]
fn hostile_sources_are_refused_or_bounded() {
    let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let long = |part: &str| format!("1{}", part.repeat(5000));
    for source in [
        nested("(", ")"),
        nested("[", "]"),
        nested("-", ""),
        nested("!", ""),
        nested("{1:", "}"),
        "(".repeat(1000),
        "!".repeat(1000),
        "[".repeat(1000),
        "a?".repeat(1000),
        long(" + 1"),
        long(".a"),
        long("[0]"),
        long(" ? 1 : 1"),
        format!("{}true", "false ? true : ".repeat(2000)),
        String::new(),
        "\u{0}".to_owned(),
        "'".to_owned(),
        "'\\".to_owned(),
        "b'\\xff' == '\\U00110000'".to_owned(),
        "é".to_owned(),
        "`".to_owned(),
        "1e".to_owned(),
        "99999999999999999999".to_owned(),
        "has(x)".to_owned(),
        "x.map(1, 2)".to_owned(),
        "[1".to_owned(),
        ".".to_owned(),
    ] {
        assert!(run(&source).is_err(), "{}", source.chars().take(40).collect::<String>());
    }
    assert_eq!(
        run(&format!("true{}", " && true".repeat(5000))),
        Ok(Value::Bool(true)),
        "a long chain is flat"
    );
}

#[test]
fn every_prefix_and_every_cut_is_answered() {
    let source = r#"object.l.all(i, i > 0 ? [?x, {'a': b'\x00é'}] : cel.bind(y, -1.5e3, "\u00e9" + r'\'))"#;
    for (at, _) in source.char_indices() {
        for part in [&source[..at], &source[at..]] {
            // Whatever it is, it ends and does not panic.
            let _ = run(part);
        }
    }
}

#[test]
fn costs_are_bounded() {
    let list = "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]";
    let all = |depth: usize| {
        let opened: String = (0..depth).map(|at| format!("{list}.all(i{at}, ")).collect();
        format!("{opened}true{}", ")".repeat(depth))
    };
    let doubled = |depth: usize, step: &str| {
        let opened: String = (0..depth)
            .map(|at| format!("cel.bind(v{}, {}, ", at + 1, step.replace('V', &format!("v{at}"))))
            .collect();
        format!("cel.bind(v0, 'aaaaaaaaaa', {opened}size(v{depth}) > 0{})", ")".repeat(depth))
    };
    let shared = |depth: usize| {
        let opened: String =
            (0..depth).map(|at| format!("cel.bind(v{}, [v{at}, v{at}, v{at}, v{at}], ", at + 1)).collect();
        format!("cel.bind(v0, [1], {opened}v{depth} == v{depth}{})", ")".repeat(depth))
    };
    let cost = Err("operation cancelled: actual cost limit exceeded".to_owned());
    let started = started_now();
    for source in [
        all(8),
        doubled(60, "V + V"),
        doubled(60, "V.replace('', V)"),
        doubled(60, "'%s%s'.format([V, V])"),
        shared(60),
        format!("{list}.map(a, {list}.map(b, {list}.map(c, {list}.map(d, 'x'.matches('(a|b|c)*d'))))) == []"),
    ] {
        assert_eq!(run(&source), cost, "{}", source.chars().take(60).collect::<String>());
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "{:?}", started.elapsed());
    assert!(run("'x'.matches('(((a{100}){100}){100}){100}')").is_err(), "a big expression is not even built");
    // What one evaluation spends is gone for the next.
    let budget = Budget::new(100);
    assert_eq!(evaluate(&all(2), &budget), cost);
    assert!(budget.is_spent());
    assert_eq!(evaluate("1 == 1", &budget), cost);
}

#[expect(clippy::disallowed_methods, reason = "a test of how long work takes")]
fn started_now() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn deep_trees_fit_a_small_stack() {
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let deep = small.spawn(|| {
        let source = format!("{}true{}", "[true].all(i, ".repeat(45), ")".repeat(45));
        let nested = format!("{}1{} == 1", "(".repeat(95), ")".repeat(95));
        (run(&source), run(&nested))
    });
    let (source, nested) = deep.expect("starts").join().expect("does not overflow");
    assert_eq!((source, nested), (Ok(Value::Bool(true)), Ok(Value::Bool(true))));
}

#[test]
fn names_are_escaped() {
    for (name, escaped) in [
        ("plain", Some("plain")),
        ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
        ("a__b", Some("a__underscores__b")),
        ("namespace", Some("__namespace__")),
        ("1a", None),
        ("", None),
        ("a b", None),
    ] {
        assert_eq!(escape(name).as_deref(), escaped, "{name}");
    }
}
