//! Makes a tree of a template's pieces.

use serde_json::Value;

use super::lexer::{Piece, Token};
use super::{Position, TemplateError};

/// How deep blocks and parentheses may be nested.
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { key: Option<String>, each: Option<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands, each given what the one before it made as its last argument.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pipeline {
    /// The variable that takes the value, and whether it is a new one.
    pub target: Option<(String, bool)>,
    pub commands: Vec<Command>,
    pub at: Position,
}

/// What is called or looked up, and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    pub head: Operand,
    pub arguments: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operand {
    pub base: Base,
    /// Looked up in the base, one in the other.
    pub fields: Vec<String>,
    pub at: Position,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Group(Box<Pipeline>),
}

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: pieces.into_iter() };
    let (nodes, end) = parser.nodes(0)?;
    match end {
        None => Ok(nodes),
        Some(End { word, at, .. }) => Err(TemplateError::new(at, format!("{word} ends no block"))),
    }
}

/// What ended a list of nodes: `end` or `else`, with what follows the latter.
struct End {
    word: String,
    rest: Tokens,
    at: Position,
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
}

impl Parser {
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { tokens, at } => (tokens, at),
            };
            if depth >= MAX_DEPTH {
                return Err(TemplateError::new(at, format!("blocks are nested deeper than {MAX_DEPTH}")));
            }
            let mut tokens = Tokens::new(tokens, at);
            match tokens.keyword() {
                Some(word) if word == "end" || word == "else" => {
                    return Ok((nodes, Some(End { word, rest: tokens, at })));
                }
                Some(word) => nodes.push(self.block(&word, tokens, at, depth + 1)?),
                None => nodes.push(Node::Show(tokens.whole_pipeline()?)),
            }
        }
        Ok((nodes, None))
    }

    fn block(
        &mut self,
        word: &str,
        mut tokens: Tokens,
        at: Position,
        depth: usize,
    ) -> Result<Node, TemplateError> {
        match word {
            "if" => {
                let condition = tokens.whole_pipeline()?;
                let (then, otherwise) = self.bodies(word, at, depth)?;
                Ok(Node::If { condition, then, otherwise })
            }
            "with" => {
                let value = tokens.whole_pipeline()?;
                let (then, otherwise) = self.bodies(word, at, depth)?;
                Ok(Node::With { value, then, otherwise })
            }
            "range" => {
                let (key, each) = tokens.range_variables()?;
                let over = tokens.whole_pipeline()?;
                let (body, otherwise) = self.bodies(word, at, depth)?;
                Ok(Node::Range { key, each, over, body, otherwise })
            }
            _ => Err(TemplateError::new(at, format!("{word} is not supported here"))),
        }
    }

    /// What stands up to `{{else}}`, and from there to `{{end}}`.
    fn bodies(
        &mut self,
        word: &str,
        at: Position,
        depth: usize,
    ) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let unclosed = || TemplateError::new(at, format!("{{{{{word}}}}} is not closed by {{{{end}}}}"));
        let (then, end) = self.nodes(depth)?;
        let end = end.ok_or_else(unclosed)?;
        if end.word == "end" {
            end.rest.check_empty()?;
            return Ok((then, Vec::new()));
        }
        if !end.rest.is_empty() {
            // {{else if …}}: a block that shares our {{end}}.
            let mut rest = end.rest;
            let Some(word) = rest.keyword().filter(|inner| inner == word && word != "range") else {
                return Err(TemplateError::new(end.at, "after else, only the block's own word may follow"));
            };
            if depth >= MAX_DEPTH {
                return Err(TemplateError::new(at, format!("blocks are nested deeper than {MAX_DEPTH}")));
            }
            return Ok((then, vec![self.block(&word, rest, end.at, depth + 1)?]));
        }
        let (otherwise, end) = self.nodes(depth)?;
        let end = end.ok_or_else(unclosed)?;
        if end.word != "end" {
            return Err(TemplateError::new(end.at, "there is an else already"));
        }
        end.rest.check_empty()?;
        Ok((then, otherwise))
    }
}

/// The tokens of an action that are left.
struct Tokens {
    tokens: std::iter::Peekable<std::vec::IntoIter<(Token, Position)>>,
    /// Where the last one began, or the action.
    at: Position,
}

impl Tokens {
    fn new(tokens: Vec<(Token, Position)>, at: Position) -> Self {
        Self { tokens: tokens.into_iter().peekable(), at }
    }

    fn is_empty(&self) -> bool {
        self.tokens.len() == 0
    }

    fn next(&mut self) -> Option<Token> {
        let (token, at) = self.tokens.next()?;
        self.at = at;
        Some(token)
    }

    fn next_if(&mut self, accepted: impl Fn(&Token) -> bool) -> Option<Token> {
        let (token, at) = self.tokens.next_if(|(token, _)| accepted(token))?;
        self.at = at;
        Some(token)
    }

    fn error(&self, cause: impl Into<String>) -> TemplateError {
        TemplateError::new(self.at, cause)
    }

    fn check_empty(mut self) -> Result<(), TemplateError> {
        match self.next() {
            None => Ok(()),
            Some(_) => Err(self.error("nothing may stand here")),
        }
    }

    /// A word that begins or ends a block.
    fn keyword(&mut self) -> Option<String> {
        const KEYWORDS: [&str; 10] =
            ["if", "with", "range", "else", "end", "define", "template", "block", "break", "continue"];
        match self.next_if(|token| matches!(token, Token::Word(word) if KEYWORDS.contains(&word.as_str()))) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// `$each :=` or `$key, $each :=`, which only range has.
    fn range_variables(&mut self) -> Result<(Option<String>, Option<String>), TemplateError> {
        let mut ahead = self.tokens.clone().map(|(token, _)| token);
        let both = match (ahead.next(), ahead.next()) {
            (Some(Token::Variable(_)), Some(Token::Comma)) => true,
            (Some(Token::Variable(_)), Some(Token::Declare)) => false,
            _ => return Ok((None, None)),
        };
        let first = self.variable()?;
        if !both {
            self.next();
            return Ok((None, Some(first)));
        }
        self.next();
        let second = self.variable()?;
        match self.next() {
            Some(Token::Declare) => Ok((Some(first), Some(second))),
            _ => Err(self.error("write {{range $key, $value := …}}")),
        }
    }

    fn variable(&mut self) -> Result<String, TemplateError> {
        match self.next() {
            Some(Token::Variable(name)) => Ok(name),
            _ => Err(self.error("a variable is missing here")),
        }
    }

    /// A pipeline that ends with the action.
    fn whole_pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let pipeline = self.pipeline(0)?;
        match self.next() {
            None => Ok(pipeline),
            Some(Token::Close) => Err(self.error("there is a ) too many")),
            Some(_) => Err(self.error("nothing may stand here")),
        }
    }

    fn pipeline(&mut self, depth: usize) -> Result<Pipeline, TemplateError> {
        if depth >= MAX_DEPTH {
            return Err(self.error(format!("parentheses are nested deeper than {MAX_DEPTH}")));
        }
        let target = self.target()?;
        let at = self.tokens.peek().map_or(self.at, |(_, at)| *at);
        let mut commands = vec![self.command(depth)?];
        while self.next_if(|token| *token == Token::Pipe).is_some() {
            commands.push(self.command(depth)?);
        }
        Ok(Pipeline { target, commands, at })
    }

    /// `$name :=` or `$name =`.
    fn target(&mut self) -> Result<Option<(String, bool)>, TemplateError> {
        let mut ahead = self.tokens.clone().map(|(token, _)| token);
        let new = match (ahead.next(), ahead.next()) {
            (Some(Token::Variable(_)), Some(Token::Declare)) => true,
            (Some(Token::Variable(_)), Some(Token::Assign)) => false,
            _ => return Ok(None),
        };
        let name = self.variable()?;
        self.next();
        Ok(Some((name, new)))
    }

    fn command(&mut self, depth: usize) -> Result<Command, TemplateError> {
        let head = self.operand(depth)?.ok_or_else(|| self.error("a value is missing here"))?;
        let mut arguments = Vec::new();
        while let Some(argument) = self.operand(depth)? {
            arguments.push(argument);
        }
        Ok(Command { head, arguments })
    }

    fn operand(&mut self, depth: usize) -> Result<Option<Operand>, TemplateError> {
        let ends = |token: &Token| matches!(token, Token::Pipe | Token::Close);
        let Some(token) = self.next_if(|token| !ends(token)) else { return Ok(None) };
        let at = self.at;
        let mut fields = Vec::new();
        let base = match token {
            Token::Word(name) => Base::Function(name),
            Token::Dot => Base::Dot,
            Token::Field { name, .. } => {
                fields.push(name);
                Base::Dot
            }
            Token::Variable(name) => Base::Variable(name),
            Token::Literal(value) => Base::Literal(value),
            Token::Open => {
                let group = self.pipeline(depth + 1)?;
                if self.next() != Some(Token::Close) {
                    return Err(TemplateError::new(at, "( is not closed by )"));
                }
                Base::Group(Box::new(group))
            }
            _ => return Err(self.error("a value is missing here")),
        };
        while let Some(Token::Field { name, .. }) =
            self.next_if(|token| matches!(token, Token::Field { attached: true, .. }))
        {
            fields.push(name);
        }
        Ok(Some(Operand { base, fields, at }))
    }
}
