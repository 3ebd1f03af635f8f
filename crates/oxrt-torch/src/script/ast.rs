//! Syntax of the language that `torch.jit.save` writes: a small subset of Python.

use std::rc::Rc;

/// A place in a file of `code/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub number: u32,
    /// Bytes before it, by which the debug records find the Python line.
    pub byte: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// `2.j`: the imaginary part.
    Imaginary(f64),
    Text(Rc<str>),
    Name(Rc<str>),
    /// `value.name`
    Attr(Box<Expr>, Rc<str>),
    /// `value[index]`
    Item(Box<Expr>, Box<Expr>),
    /// Function, positional and named arguments.
    Call(Box<Expr>, Vec<Expr>, Vec<(Rc<str>, Expr)>),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `-value`
    Neg(Box<Expr>),
    Not(Box<Expr>),
    /// `value if test else other`
    Choice {
        test: Box<Expr>,
        yes: Box<Expr>,
        no: Box<Expr>,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Stmt {
    /// One target, or several that a tuple is taken apart into.
    Assign {
        targets: Vec<Expr>,
        unpack: bool,
        value: Expr,
        line: Line,
    },
    Expr(Expr, Line),
    If {
        test: Expr,
        yes: Vec<Stmt>,
        no: Vec<Stmt>,
        line: Line,
    },
    /// `for name in range(count)`
    For {
        name: Rc<str>,
        count: Expr,
        body: Vec<Stmt>,
        line: Line,
    },
    While {
        test: Expr,
        body: Vec<Stmt>,
        line: Line,
    },
    /// `with context:`, also `with context as name:`
    With {
        context: Expr,
        name: Option<Rc<str>>,
        body: Vec<Stmt>,
        line: Line,
    },
    Return(Expr, Line),
}

/// A declared parameter of a function.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub name: Rc<str>,
    pub ty: Expr,
    pub default: Option<Expr>,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub name: Rc<str>,
    pub params: Vec<Param>,
    pub body: Vec<Stmt>,
}

#[derive(Debug, Default)]
pub(crate) struct Class {
    pub name: Rc<str>,
    /// `Module`, `NamedTuple`, `Enum`, or empty.
    pub base: Rc<str>,
    /// Declared attributes in order, with their types and, for constants, their values.
    pub fields: Vec<(Rc<str>, Expr, Option<Expr>)>,
    pub methods: Vec<Rc<Function>>,
}

/// What one file of `code/` declares.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub classes: Vec<Class>,
    pub functions: Vec<Rc<Function>>,
}

/// Names that a block assigns, nested blocks included, in order.
pub(crate) fn assigned(block: &[Stmt], out: &mut Vec<Rc<str>>) {
    fn add(out: &mut Vec<Rc<str>>, name: &Rc<str>) {
        if !out.contains(name) {
            out.push(name.clone());
        }
    }
    for stmt in block {
        match stmt {
            Stmt::Assign { targets, .. } => {
                for t in targets {
                    if let Expr::Name(n) = t {
                        add(out, n);
                    }
                }
            }
            Stmt::If { yes, no, .. } => {
                assigned(yes, out);
                assigned(no, out);
            }
            Stmt::For { name, body, .. } => {
                add(out, name);
                assigned(body, out);
            }
            Stmt::While { body, .. } => assigned(body, out),
            Stmt::With { name, body, .. } => {
                name.iter().for_each(|n| add(out, n));
                assigned(body, out);
            }
            Stmt::Expr(..) | Stmt::Return(..) => {}
        }
    }
}
