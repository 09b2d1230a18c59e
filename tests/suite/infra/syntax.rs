//! Bicep as a tree, by the grammar of tree-sitter.

use tree_sitter::{Language, Parser, TreeCursor};

/// A named node of the syntax tree.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: String,
    pub text: String,
    /// The line it begins on, from 1.
    pub line: usize,
    /// Whether the parser could make nothing of it, or missed something here.
    pub wrong: bool,
    pub children: Vec<Node>,
}

/// Parses a template. Assignments in a parameter file have no type, which the grammar does not know, so they are
/// read as variables.
pub fn parse(path: &str, text: &str) -> Node {
    let mut parser = Parser::new();
    let language: Language = tree_sitter_bicep::LANGUAGE.into();
    parser.set_language(&language).unwrap();
    let assignments = text.replace("\nparam ", "\nvar ");
    let text = if path.ends_with(".bicepparam") {
        &assignments
    } else {
        text
    };
    let tree = parser.parse(text, None).unwrap();
    node(&mut tree.walk(), text)
}

fn node(cursor: &mut TreeCursor<'_>, text: &str) -> Node {
    let here = cursor.node();
    let mut children = Vec::new();
    if cursor.goto_first_child() {
        loop {
            let child = cursor.node();
            let matters = child.is_named() || child.is_missing();
            if matters && child.kind() != "comment" {
                children.push(node(cursor, text));
            }
            if !cursor.goto_next_sibling() {
                break;
            }
        }
        cursor.goto_parent();
    }
    Node {
        kind: here.kind().to_owned(),
        text: text[here.byte_range()].to_owned(),
        line: here.start_position().row + 1,
        wrong: here.is_error() || here.is_missing(),
        children,
    }
}

impl Node {
    /// This node and everything below it.
    pub fn walk(&self) -> Vec<&Node> {
        let below = self.children.iter().flat_map(Node::walk);
        std::iter::once(self).chain(below).collect()
    }

    /// The text between a string's quotes, with its interpolations as they are written.
    pub fn unquoted(&self) -> &str {
        self.text.trim_matches('\'')
    }

    /// The object that a resource's or module's body is, below conditions and loops.
    pub fn body(&self) -> Option<&Node> {
        match self.kind.as_str() {
            "object" => Some(self),
            _ => self.children.last()?.body(),
        }
    }

    /// The value of an object's property.
    pub fn property(&self, name: &str) -> Option<&Node> {
        let mut properties = self.properties().into_iter();
        properties
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// An object's properties whose names are written out.
    pub fn properties(&self) -> Vec<(String, &Node)> {
        let written = |property: &'_ Node| property.kind == "object_property";
        let named = |property| {
            let [key, value] = take(property)?;
            let name = key.unquoted().to_owned();
            (!name.contains("${")).then_some((name, value))
        };
        self.children
            .iter()
            .filter(|property| written(property))
            .filter_map(named)
            .collect()
    }

    /// The outermost objects in an expression.
    pub fn objects(&self) -> Vec<&Node> {
        if self.kind == "object" {
            return vec![self];
        }
        self.children.iter().flat_map(Node::objects).collect()
    }
}

/// A node's children, if there are so many.
pub fn take<const COUNT: usize>(node: &Node) -> Option<[&Node; COUNT]> {
    let children: Vec<_> = node.children.iter().collect();
    children.try_into().ok()
}
