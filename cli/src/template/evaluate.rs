//! Walks a template's tree over a value.

use serde_json::Value;

use super::functions::LOOKUP;
use super::parser::{Base, Command, Node, Operand, Pipeline};
use super::show::{is_true, kind, show};
use super::{Position, TemplateError};

/// Calls a function by name.
pub(super) type Call = fn(&str, &[Value]) -> Result<Value, String>;

pub(super) fn render(nodes: &[Node], value: &Value, call: Call) -> Result<String, TemplateError> {
    let mut evaluation =
        Evaluation { out: String::new(), variables: vec![(String::new(), value.clone())], call };
    evaluation.nodes(nodes, value)?;
    Ok(evaluation.out)
}

struct Evaluation {
    out: String,
    /// The innermost last; the one without a name, `$`, is what the template was given.
    variables: Vec<(String, Value)>,
    call: Call,
}

impl Evaluation {
    /// A block: its variables end with it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let known = self.variables.len();
        self.nodes(nodes, dot)?;
        self.variables.truncate(known);
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        nodes.iter().try_for_each(|node| self.node(node, dot))
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        let known = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Show(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.target.is_none() {
                    self.out.push_str(&show(&value));
                }
                // What it declares holds in the nodes after it.
                return Ok(());
            }
            Node::If { condition, then, otherwise } => {
                let holds = is_true(&self.pipeline(condition, dot)?);
                self.block(if holds { then } else { otherwise }, dot)?;
            }
            Node::With { value, then, otherwise } => {
                let value = self.pipeline(value, dot)?;
                if is_true(&value) {
                    self.block(then, &value)?;
                } else {
                    self.block(otherwise, dot)?;
                }
            }
            Node::Range { key, each, over, body, otherwise } => {
                let members = members(self.pipeline(over, dot)?, over.at)?;
                if members.is_empty() {
                    self.block(otherwise, dot)?;
                }
                for (name, member) in members {
                    self.variables.extend(key.iter().map(|key| (key.clone(), name.clone())));
                    self.variables.extend(each.iter().map(|each| (each.clone(), member.clone())));
                    self.nodes(body, &member)?;
                    self.variables.truncate(known);
                }
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Null);
        match &pipeline.target {
            None => {}
            Some((name, true)) => self.variables.push((name.clone(), value.clone())),
            Some((name, false)) => match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, variable)) => *variable = value.clone(),
                None => return Err(unknown_variable(pipeline.at, name)),
            },
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let head = &command.head;
        let Base::Function(name) = &head.base else {
            let found = self.operand(head, dot)?;
            let mut arguments = self.arguments(&command.arguments, dot)?;
            arguments.extend(piped);
            return self.called(found, arguments, head.at);
        };
        if name == "and" || name == "or" {
            return self.and_or(name == "or", &command.arguments, dot, piped);
        }
        let mut arguments = self.arguments(&command.arguments, dot)?;
        arguments.extend(piped);
        let value = (self.call)(name, &arguments).map_err(|cause| TemplateError::new(head.at, cause))?;
        lookup(value, &head.fields, head.at)
    }

    /// `.Label "name"`: a field that takes an argument is a map to look that up in.
    fn called(&self, value: Value, arguments: Vec<Value>, at: Position) -> Result<Value, TemplateError> {
        match (&value, arguments.as_slice()) {
            (_, []) => Ok(value),
            (Value::Object(_), [name]) => {
                let found = (self.call)(LOOKUP, &[value, name.clone()]);
                found.map_err(|cause| TemplateError::new(at, cause))
            }
            _ => {
                let cause = format!("{} is no function and takes no argument", kind(&value));
                Err(TemplateError::new(at, cause))
            }
        }
    }

    fn arguments(&mut self, arguments: &[Operand], dot: &Value) -> Result<Vec<Value>, TemplateError> {
        arguments.iter().map(|argument| self.operand(argument, dot)).collect()
    }

    /// The first argument that decides, or the last: what comes after it is not looked at.
    fn and_or(
        &mut self,
        decides: bool,
        arguments: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = Value::Null;
        for argument in arguments {
            last = self.operand(argument, dot)?;
            if is_true(&last) == decides {
                return Ok(last);
            }
        }
        Ok(piped.unwrap_or(last))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Group(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.map(|(_, value)| value.clone()).ok_or_else(|| unknown_variable(operand.at, name))?
            }
            Base::Function(name) => {
                (self.call)(name, &[]).map_err(|cause| TemplateError::new(operand.at, cause))?
            }
        };
        lookup(base, &operand.fields, operand.at)
    }
}

fn lookup(mut value: Value, fields: &[String], at: Position) -> Result<Value, TemplateError> {
    for field in fields {
        value = match value {
            Value::Object(mut members) => match members.remove(field) {
                Some(member) => member,
                None => {
                    let known: Vec<_> = members.keys().map(String::as_str).collect();
                    let cause = format!("there is no field .{field} here; there are {}", known.join(", "));
                    return Err(TemplateError::new(at, cause));
                }
            },
            other => {
                let cause = format!(".{field} is looked for in {}, which has no fields", kind(&other));
                return Err(TemplateError::new(at, cause));
            }
        };
    }
    Ok(value)
}

/// Keys and values, in order.
fn members(value: Value, at: Position) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            Ok(values.into_iter().enumerate().map(|(index, value)| (index.into(), value)).collect())
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.into_iter().collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Ok(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
        }
        other => Err(TemplateError::new(at, format!("range cannot go over {}", kind(&other)))),
    }
}

fn unknown_variable(at: Position, name: &str) -> TemplateError {
    TemplateError::new(at, format!("there is no variable ${name}"))
}
