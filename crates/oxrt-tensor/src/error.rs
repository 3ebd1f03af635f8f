//! One error type for the whole of oxrt: what is wrong, where, and what to do next.

use std::fmt;

/// Who has to act on an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The input (file, argument, tensor) is wrong.
    Invalid,
    /// The input is fine, but oxrt cannot do this (yet). Never turned into a wrong result.
    Unsupported,
    /// The operating system said no.
    Io,
    /// A broken promise inside oxrt.
    Bug,
}

/// An error with its kind, its chain of places and an optional remedy.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    /// Innermost place first.
    places: Vec<String>,
    help: Option<String>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), places: Vec::new(), help: None }))
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    /// Adds the place where it happened; call from the inside out (node, then file).
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        let place = place.into();
        // Layers that know the same place say it once.
        if self.0.places.last() != Some(&place) {
            self.0.places.push(place);
        }
        self
    }

    /// Adds what the user can do next; the innermost remedy wins, it knows most.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn places(&self) -> &[String] {
        &self.0.places
    }

    pub fn remedy(&self) -> Option<&str> {
        self.0.help.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind {
            Kind::Invalid | Kind::Io => {}
            Kind::Unsupported => write!(f, "unsupported: ")?,
            Kind::Bug => write!(f, "internal error (please report): ")?,
        }
        write!(f, "{}", self.0.message)?;
        for place in &self.0.places {
            write!(f, "\n  at {place}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\nhelp: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        let error = Error::new(Kind::Io, e.to_string());
        match e.kind() {
            std::io::ErrorKind::StorageFull => error.help("the disk is full: free some space or write elsewhere"),
            _ => error,
        }
    }
}

/// `?` with a place: `read(path).at(|| path.display())?`.
pub trait Context<T> {
    fn at<P: fmt::Display>(self, place: impl FnOnce() -> P) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn at<P: fmt::Display>(self, place: impl FnOnce() -> P) -> Result<T> {
        self.map_err(|e| e.into().at(place().to_string()))
    }
}

/// `bail!(invalid, "…")`: returns early with a formatted error of that kind.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($arg:tt)*) => { return Err($crate::Error::$kind(format!($($arg)*))) };
}
