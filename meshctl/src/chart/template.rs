//! Renders one template of the chart. The language is Go's; what is added here is the place where a template fails, which
//! gotmpl does not tell: every action is preceded by one that notes its line.

use std::sync::{Arc, OnceLock, Weak};

use gotmpl::parse::{
    ActionNode, BranchNode, CommandNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos,
    SmolStr,
};
use gotmpl::{MissingKey, Template, TemplateError, Value};
use parking_lot::Mutex;

use super::ChartError;
use super::functions;

/// A file of templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// As in the chart: `templates/services.yaml`.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// Renders `main`, which may include what `helpers` define. A name that is in no value, a function or template that is not
/// there: all are errors with their file and line.
pub fn render(
    helpers: &[Source<'_>],
    main: &Source<'_>,
    data: &Value,
) -> Result<String, ChartError> {
    let files: Vec<&Source<'_>> = helpers.iter().chain([main]).collect();
    let place = Arc::new(Mutex::new(Place::default()));
    let whole: Arc<OnceLock<Weak<Template>>> = Arc::new(OnceLock::new());
    let mut template = Template::new("").missing_key(MissingKey::Error);
    for (name, function) in functions::FUNCTIONS {
        template = template.func(name, function);
    }
    let noted = Arc::clone(&place);
    template = template.func(NOTE_PLACE, move |arguments| {
        if let [Value::Int(file), Value::Int(line)] = arguments {
            let number = |value: i64| usize::try_from(value).unwrap_or_default();
            *noted.lock() = Place { file: number(*file), line: number(*line) };
        }
        Ok(Value::String("".into()))
    });
    template = template.func("include", include(Arc::clone(&place), Arc::clone(&whole)));
    for (index, source) in files.iter().enumerate() {
        let (body, definitions) = parse(source, index)?;
        for (name, tree) in definitions {
            template = template.add_parse_tree(&name, tree);
        }
        template = template.add_parse_tree(source.name, body);
    }
    let template = Arc::new(template);
    // Just made: nobody else has set it.
    let _ = whole.set(Arc::downgrade(&template));
    let rendered = template.execute_template_to_string(main.name, data);
    let place = *place.lock();
    let fails = |message: String| ChartError::Template {
        file: files.get(place.file).map_or("", |source| source.name).to_owned(),
        line: place.line,
        message,
    };
    let text = rendered.map_err(|error| fails(said(&error)))?;
    if text.contains(NO_VALUE) {
        return Err(fails("prints a value that is not there".to_owned()));
    }
    Ok(text)
}

/// Where an action begins.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    file: usize,
    line: usize,
}

/// `include NAME DATA`: what a definition renders, as a value.
fn include(
    place: Arc<Mutex<Place>>,
    whole: Arc<OnceLock<Weak<Template>>>,
) -> impl Fn(&[Value]) -> Result<Value, TemplateError> + Send + Sync + 'static {
    move |arguments| {
        let [Value::String(name), data] = arguments else {
            return Err(TemplateError::Exec("include wants a name and its data".to_owned()));
        };
        let template = whole.get().and_then(Weak::upgrade);
        let template =
            template.ok_or_else(|| TemplateError::UndefinedTemplate(name.to_string()))?;
        let before = *place.lock();
        let text = template.execute_template_to_string(name, data)?;
        // What fails after it in the same action is at the action's place.
        *place.lock() = before;
        Ok(Value::String(text.into()))
    }
}

type Definitions = Vec<(String, ListNode)>;

fn parse(source: &Source<'_>, index: usize) -> Result<(ListNode, Definitions), ChartError> {
    let unreadable = |error: TemplateError| ChartError::Template {
        file: source.name.to_owned(),
        line: line_of(&error),
        message: said(&error),
    };
    if let Some((line, message)) = unbalanced(source.text) {
        let (file, message) = (source.name.to_owned(), message.to_owned());
        return Err(ChartError::Template { file, line, message });
    }
    let parser = Parser::new(source.text, "{{", "}}").map_err(unreadable)?;
    let (body, definitions) = parser.parse().map_err(unreadable)?;
    let annotate = |list: ListNode| Annotator { file: index, name: source.name }.list(list);
    let definitions = definitions
        .into_iter()
        .map(|definition| Ok((definition.name.to_string(), annotate(definition.body)?)))
        .collect::<Result<_, ChartError>>()?;
    Ok((annotate(body)?, definitions))
}

/// A block that is never ended, or an end of none, with its line: gotmpl passes over both, and Go does not.
fn unbalanced(text: &str) -> Option<(usize, &'static str)> {
    let mut open = Vec::new();
    let mut line = 1;
    for (index, part) in text.split("{{").enumerate() {
        let action = part.trim_start_matches(['-', ' ', '\n']);
        match action.split([' ', '}', '-', '\n']).next().unwrap_or_default() {
            "if" | "range" | "with" | "define" | "block" if index > 0 => open.push(line),
            "end" if index > 0 && open.pop().is_none() => {
                return Some((line, "this ends no block"));
            }
            _ => {}
        }
        line += part.matches('\n').count();
    }
    open.pop().map(|line| (line, "this block has no end"))
}

/// Puts a note of its place before every action, and refuses functions that are not there, also in branches that are not
/// taken.
#[derive(Clone, Copy)]
struct Annotator<'a> {
    file: usize,
    name: &'a str,
}

impl Annotator<'_> {
    fn list(self, list: ListNode) -> Result<ListNode, ChartError> {
        let mut nodes = Vec::with_capacity(list.nodes.len() * 2);
        for node in list.nodes {
            let pos = match &node {
                Node::Action(action) => Some(action.pos),
                Node::If(branch) | Node::Range(branch) | Node::With(branch) => Some(branch.pos),
                Node::Template(template) => Some(template.pos),
                Node::List(_) | Node::Text(_) | Node::Define(_) => None,
                Node::Break(_) | Node::Continue(_) => None,
            };
            nodes.extend(pos.map(|pos| self.note(pos)));
            nodes.push(self.node(node)?);
        }
        Ok(ListNode { pos: list.pos, nodes })
    }

    fn node(self, node: Node) -> Result<Node, ChartError> {
        Ok(match node {
            Node::List(list) => Node::List(self.list(list)?),
            Node::Action(action) => {
                self.check(&action.pipe)?;
                Node::Action(action)
            }
            Node::If(branch) => Node::If(self.branch(branch)?),
            Node::Range(branch) => Node::Range(self.branch(branch)?),
            Node::With(branch) => Node::With(self.branch(branch)?),
            Node::Template(template) => {
                template.pipe.as_ref().map_or(Ok(()), |pipe| self.check(pipe))?;
                Node::Template(template)
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => node,
        })
    }

    fn branch(self, branch: BranchNode) -> Result<BranchNode, ChartError> {
        self.check(&branch.pipe)?;
        let else_body = branch.else_body.map(|list| self.list(list)).transpose()?;
        Ok(BranchNode { body: self.list(branch.body)?, else_body, ..branch })
    }

    fn check(self, pipe: &PipeNode) -> Result<(), ChartError> {
        pipe.commands
            .iter()
            .flat_map(|command| &command.args)
            .try_for_each(|expression| self.check_expression(expression))
    }

    fn check_expression(self, expression: &Expr) -> Result<(), ChartError> {
        match expression {
            Expr::Identifier(pos, name) if !functions::is_known(name) => {
                Err(ChartError::Template {
                    file: self.name.to_owned(),
                    line: pos.line,
                    message: format!("there is no function {name}"),
                })
            }
            Expr::Pipe(_, pipe) => self.check(pipe),
            Expr::Chain(_, inner, _) => self.check_expression(inner),
            Expr::Identifier(..) | Expr::Dot(_) | Expr::Field(..) | Expr::Variable(..) => Ok(()),
            Expr::String(..) | Expr::Number(..) | Expr::Bool(..) | Expr::Nil(_) => Ok(()),
        }
    }

    fn note(self, pos: Pos) -> Node {
        let number =
            |value: usize| Expr::Number(pos, Number::Int(i64::try_from(value).unwrap_or_default()));
        let function = Expr::Identifier(pos, SmolStr::new_static(NOTE_PLACE));
        let args = vec![function, number(self.file), number(pos.line)];
        let commands = vec![CommandNode { pos, args }];
        let pipe = PipeNode { pos, decl: Vec::new(), commands, is_assign: false };
        Node::Action(ActionNode { pos, pipe })
    }
}

fn line_of(error: &TemplateError) -> usize {
    if let TemplateError::Lex { line, .. } | TemplateError::Parse { line, .. } = error {
        *line
    } else {
        0
    }
}

fn said(error: &TemplateError) -> String {
    if let TemplateError::Lex { message, .. } | TemplateError::Parse { message, .. } = error {
        message.clone()
    } else if let TemplateError::MissingKey { key } = error {
        format!("there is no value {key}")
    } else {
        error.to_string()
    }
}

/// No template can call it by this name.
const NOTE_PLACE: &str = "#place";

/// What Go prints for a value that is not there.
const NO_VALUE: &str = "<no value>";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HELPERS: Source<'static> = Source {
        name: "_helpers.tpl",
        text: "{{- define \"greet\" -}}\nhello {{ .name }}\n{{- end -}}\n{{ define \"bad\" }}\n\n{{ .absent }}{{ end }}",
    };

    fn rendered(text: &str) -> Result<String, String> {
        let data = functions::from_json(
            &json!({"name": "mesh", "list": [1, 2], "map": {"b": 2, "a": 1}, "empty": ""}),
        );
        let main = Source { name: "main.yaml", text };
        render(&[HELPERS], &main, &data).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_are_rendered_as_go_does() {
        for (case, text, expected) in [
            ("text", "a: b\n", "a: b\n"),
            ("whitespace is trimmed", "a:\n  {{- if true }}\n  b\n  {{- end }}\n", "a:\n  b\n"),
            ("range", "{{ range .list }}<{{ . }}>{{ end }}", "<1><2>"),
            ("sorted map", "{{ range $k, $v := .map }}{{ $k }}{{ $v }} {{ end }}", "a1 b2 "),
            ("with and else", "{{ with .empty }}x{{ else }}y{{ end }}", "y"),
            ("variables", "{{ $x := .name }}{{ $x }}", "mesh"),
            ("pipes", "{{ .name | printf \"%s-%s\" \"the\" | quote }}", "\"the-mesh\""),
            ("include", "x:\n  {{- include \"greet\" . | nindent 2 }}", "x:\n  hello mesh"),
            ("the root", "{{ range .list }}{{ $.name }}{{ end }}", "meshmesh"),
            ("comments", "a{{/* b */}}c", "ac"),
            ("else if", "{{ if .empty }}1{{ else if eq .name \"mesh\" }}2{{ end }}", "2"),
        ] {
            assert_eq!(rendered(text).as_deref(), Ok(expected), "case: {case}");
        }
    }

    #[test]
    fn an_error_names_its_file_and_line() {
        for (case, text, expected) in [
            ("a value", "a\n{{ .map.c }}", "main.yaml:2: there is no value c"),
            (
                "in a branch",
                "{{ if true }}\n\n{{ .c }}{{ end }}",
                "main.yaml:3: there is no value c",
            ),
            (
                "in an else",
                "{{ if false }}{{ else if true }}\n{{ .c }}{{ end }}",
                "main.yaml:2: there is no value c",
            ),
            (
                "in an include",
                "{{ include \"bad\" . }}",
                "_helpers.tpl:6: there is no value absent",
            ),
            (
                "after an include",
                "\n{{ printf \"%s%s\" (include \"greet\" .) .c }}",
                "main.yaml:2: there is no value c",
            ),
            (
                "a function, not called",
                "\n{{ if false }}{{ env \"X\" }}{{ end }}",
                "main.yaml:2: there is no function env",
            ),
            (
                "a function in a pipe",
                "{{ .name | upper }}",
                "main.yaml:1: there is no function upper",
            ),
            ("a template", "\n\n{{ include \"none\" . }}", "main.yaml:3: undefined template: none"),
            (
                "a field of a text",
                "{{ .name.first }}",
                "main.yaml:1: execution error: can't evaluate field first in type string",
            ),
        ] {
            assert_eq!(rendered(text).unwrap_err(), expected, "case: {case}");
        }
        let unclosed = rendered("a\n{{ if true }}\n{{- range .list }}{{ end }}").unwrap_err();
        assert_eq!(unclosed, "main.yaml:2: this block has no end");
        let unopened = rendered("a\n{{ end }}").unwrap_err();
        assert_eq!(unopened, "main.yaml:2: this ends no block");
        assert!(rendered("{{ nil }}").is_err());
    }
}
