//! Go templates, as `-o go-template` takes them: fields, variables, pipelines,
//! `if`, `range`, `with`, and the functions that matter for objects. It follows
//! the documentation of Go's `text/template`; named templates are not there.

mod eval;
mod parse;

use serde_json::Value;

use crate::error::Error;

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GoTemplate {
    source: String,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// Commands whose value is the last argument of the next.
#[derive(Clone, Debug, Default, PartialEq)]
struct Pipeline {
    /// Variables that get the value.
    variables: Vec<String>,
    /// Whether they are new.
    declares: bool,
    commands: Vec<Vec<Term>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Term {
    /// `.a.b`; no names is the dot itself.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Literal(Value),
    Group(Pipeline, Vec<String>),
}

impl GoTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match parse::nodes(text) {
            Ok(nodes) => Ok(Self { source: text.to_owned(), nodes }),
            Err(why) => Err(Error::said(format!("error parsing template {text}, template: output: {why}"))),
        }
    }

    /// The text that the template makes of a value.
    pub(crate) fn print(&self, root: &Value) -> Result<String, Error> {
        eval::run(&self.nodes, root).map_err(|why| {
            Error::said(format!("error executing template {:?}: template: output: {why}", self.source))
        })
    }
}

/// A value as Go prints it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn print(text: &str) -> Result<String, String> {
        let root = json!({"name": "web", "n": 3, "none": null, "yes": true, "list": [{"a": "x"}, {"a": "y"}],
            "map": {"k1": "v1", "k-2": 2}, "empty": [], "secret": "YQ=="});
        GoTemplate::parse(text).and_then(|template| template.print(&root)).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_print_as_gos() {
        let table = [
            ("a{{.name}}b", "awebb"),
            (
                "{{.n}} {{.nothing}} {{.nothing.at.all}} {{.map}} {{.list}}",
                "3 <no value> <no value> map[k-2:2 k1:v1] [map[a:x] map[a:y]]",
            ),
            ("{{range .list}}{{.a}},{{end}}", "x,y,"),
            ("{{range $i, $e := .list}}{{$i}}{{$e.a}}{{end}}", "0x1y"),
            ("{{range $k, $v := .map}}{{$k}}={{$v}} {{end}}", "k-2=2 k1=v1 "),
            ("{{range .empty}}x{{else}}none{{end}}", "none"),
            ("{{range .list}}{{if eq .a \"y\"}}{{break}}{{end}}{{.a}}{{end}}", "x"),
            ("{{range .list}}{{if eq .a \"x\"}}{{continue}}{{end}}{{.a}}{{end}}", "y"),
            ("{{if .none}}a{{else if .yes}}b{{else}}c{{end}}", "b"),
            ("{{with .map}}{{.k1}}{{$.name}}{{end}}", "v1web"),
            ("{{with $x := .name}}{{$x}}{{end}}", "web"),
            ("{{$x := 1}}{{if .yes}}{{$x = 2}}{{end}}{{$x}}", "2"),
            ("{{index .map \"k-2\"}} {{(index .list 1).a}} {{len .list}}", "2 y 2"),
            ("{{.name | printf \"%s-%d-%q\" \"a\" 5}}", "a-5-\"web\""),
            ("{{printf \"%5d|%-4s|%04d|%v|%t%%\" 7 \"ab\" 7 .n true}}", "    7|ab  |0007|3|true%"),
            ("{{and .yes .name}} {{or .none \"d\"}} {{not .none}}", "web d true"),
            ("{{eq .n 3 4}} {{ne .name \"x\"}} {{lt .n 4}} {{ge \"b\" \"a\"}}", "true true true true"),
            ("{{.secret | base64decode}} {{print 1 \"a\" 2}} {{println .n}}", "a 1a2 3\n"),
            ("{{slice .name 1 2}} {{exists . \"map\" \"k1\"}} {{exists . \"map\" \"q\"}}", "e true false"),
            ("a {{- /* note */ -}} b {{- .name -}} c", "abwebc"),
            ("{{`raw\\n`}}{{'a'}}{{\"\\n\\\"\"}}", "raw\\n97\n\""),
        ];
        for (text, expected) in table {
            assert_eq!(print(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in [
            "{{nofunc .}}",
            "{{if .x}",
            "{{if .x}}",
            "{{end}}",
            "{{else}}",
            "{{.a | }}",
            "{{$nope}}",
            "{{(.a}}",
            "{{\"x}}",
            "{{index .nothing \"a\"}}",
            "{{range .name}}{{end}}",
            "{{eq .n 1.5}}",
            "{{len .n}}",
            "{{.name.x}}",
            "{{break}}",
        ] {
            assert!(print(text).is_err(), "{text}");
        }
    }
}
