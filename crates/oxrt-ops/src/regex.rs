//! Regular expressions in the syntax of RE2, as far as `RegexFullMatch` needs it: a whole string matches or
//! not. All states are followed at once (Thompson), so the time is linear in the string.

use oxrt_tensor::{Error, Result, bail};

enum Node {
    /// One character of these ranges, or with `true` one that is in none.
    Class(Vec<(char, char)>, bool),
    Start,
    End,
    /// At a border between word and other characters, or with `true` anywhere else.
    Border(bool),
    Concat(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, usize, Option<usize>),
}

enum Step {
    Class(Vec<(char, char)>, bool),
    Start,
    End,
    Border(bool),
    Split(usize, usize),
    Match,
}

pub struct Regex {
    steps: Vec<(Step, usize)>,
    first: usize,
}

/// Repetitions are written out, so they are bounded.
const MOST_STEPS: usize = 100_000;

impl Regex {
    pub fn new(pattern: &str) -> Result<Regex> {
        let mut p = Parser { chars: pattern.chars().collect(), at: 0, fold: false, dot_all: false, depth: 0 };
        let node = p.either()?;
        if p.at < p.chars.len() {
            return Err(p.bad("an unexpected `)`"));
        }
        let mut regex = Regex { steps: vec![(Step::Match, 0)], first: 0 };
        regex.first = regex.compile(&node, 0)?;
        Ok(regex)
    }

    /// Compiles `node` so that it continues at `next`; gives its first step.
    fn compile(&mut self, node: &Node, next: usize) -> Result<usize> {
        if self.steps.len() > MOST_STEPS {
            bail!(unsupported, "a pattern of more than {MOST_STEPS} steps");
        }
        Ok(match node {
            Node::Class(ranges, negated) => self.push(Step::Class(ranges.clone(), *negated), next),
            Node::Start => self.push(Step::Start, next),
            Node::End => self.push(Step::End, next),
            Node::Border(inside) => self.push(Step::Border(*inside), next),
            Node::Concat(list) => list.iter().rev().try_fold(next, |next, n| self.compile(n, next))?,
            Node::Either(list) => {
                let mut first = None;
                for n in list.iter().rev() {
                    let here = self.compile(n, next)?;
                    first = Some(match first {
                        None => here,
                        Some(other) => self.push(Step::Split(here, other), 0),
                    });
                }
                first.unwrap_or(next)
            }
            Node::Repeat(inner, least, most) => {
                let mut next = next;
                match most {
                    None => {
                        let split = self.push(Step::Split(0, next), 0);
                        let inside = self.compile(inner, split)?;
                        self.steps[split].0 = Step::Split(inside, next);
                        next = split;
                    }
                    Some(most) => {
                        let end = next;
                        for _ in *least..*most {
                            let inside = self.compile(inner, next)?;
                            next = self.push(Step::Split(inside, end), 0);
                        }
                    }
                }
                for _ in 0..*least {
                    next = self.compile(inner, next)?;
                }
                next
            }
        })
    }

    fn push(&mut self, step: Step, next: usize) -> usize {
        self.steps.push((step, next));
        self.steps.len() - 1
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let mut states = vec![self.first];
        for at in 0..=chars.len() {
            // Follow the steps that take no character.
            let mut seen = vec![false; self.steps.len()];
            let mut taking = Vec::new();
            while let Some(s) = states.pop() {
                if std::mem::replace(&mut seen[s], true) {
                    continue;
                }
                let (step, next) = &self.steps[s];
                let word = |i: Option<usize>| i.and_then(|i| chars.get(i)).is_some_and(|c| is_word(*c));
                match step {
                    Step::Split(a, b) => states.extend([*a, *b]),
                    Step::Start if at == 0 => states.push(*next),
                    Step::End if at == chars.len() => states.push(*next),
                    Step::Border(inside) if (word(at.checked_sub(1)) != word(Some(at))) != *inside => {
                        states.push(*next)
                    }
                    Step::Class(..) => taking.push(s),
                    Step::Match if at == chars.len() => return true,
                    _ => {}
                }
            }
            let Some(&c) = chars.get(at) else { return false };
            let takes = |s: &&usize| match &self.steps[**s].0 {
                Step::Class(ranges, negated) => ranges.iter().any(|&(a, b)| a <= c && c <= b) != *negated,
                _ => false,
            };
            states = taking.iter().filter(takes).map(|&s| self.steps[s].1).collect();
        }
        false
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    /// `(?i)`
    fold: bool,
    /// `(?s)`
    dot_all: bool,
    depth: usize,
}

impl Parser {
    fn bad(&self, what: &str) -> Error {
        Error::invalid(format!("the pattern `{}`: {what} at {}", self.chars.iter().collect::<String>(), self.at))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(c);
        self.at += hit as usize;
        hit
    }

    fn next(&mut self) -> Result<char> {
        let c = self.peek().ok_or_else(|| self.bad("the end came too early"))?;
        self.at += 1;
        Ok(c)
    }

    fn either(&mut self) -> Result<Node> {
        let mut list = vec![self.concat()?];
        while self.eat('|') {
            list.push(self.concat()?);
        }
        Ok(if list.len() == 1 { list.remove(0) } else { Node::Either(list) })
    }

    fn concat(&mut self) -> Result<Node> {
        let mut list = Vec::new();
        while self.peek().is_some_and(|c| c != '|' && c != ')') {
            let node = self.one()?;
            list.push(self.repeated(node)?);
        }
        Ok(Node::Concat(list))
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node> {
        loop {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => match self.counts() {
                    Some((a, b, end)) => {
                        self.at = end - 1;
                        (a, b)
                    }
                    // A brace that counts nothing is itself.
                    None => return Ok(node),
                },
                _ => return Ok(node),
            };
            self.at += 1;
            if least > 1000 || most.is_some_and(|m| m > 1000 || m < least) {
                return Err(self.bad("a bad number of repetitions"));
            }
            // Which match is preferred does not matter here.
            self.eat('?');
            node = Node::Repeat(Box::new(node), least, most);
        }
    }

    /// `{2}`, `{2,}` or `{2,5}`, and the place behind it.
    fn counts(&self) -> Option<(usize, Option<usize>, usize)> {
        let len = self.chars[self.at..].iter().position(|&c| c == '}')?;
        let text: String = self.chars[self.at + 1..self.at + len].iter().collect();
        let (a, b) = match text.split_once(',') {
            None => (text.parse().ok()?, Some(text.parse().ok()?)),
            Some((a, "")) => (a.parse().ok()?, None),
            Some((a, b)) => (a.parse().ok()?, Some(b.parse().ok()?)),
        };
        Some((a, b, self.at + len + 1))
    }

    fn one(&mut self) -> Result<Node> {
        Ok(match self.next()? {
            '(' => self.group()?,
            '[' => self.class()?,
            '.' if self.dot_all => Node::Class(vec![], true),
            '.' => Node::Class(vec![('\n', '\n')], true),
            '^' => Node::Start,
            '$' => Node::End,
            '\\' => match self.peek() {
                Some('A') => self.anchor(Node::Start),
                Some('z') => self.anchor(Node::End),
                Some('b') => self.anchor(Node::Border(false)),
                Some('B') => self.anchor(Node::Border(true)),
                _ => {
                    let (ranges, negated) = self.escape()?;
                    Node::Class(self.folded(ranges), negated)
                }
            },
            c @ ('*' | '+' | '?') => return Err(self.bad(&format!("`{c}` repeats nothing"))),
            c => Node::Class(self.folded(vec![(c, c)]), false),
        })
    }

    fn anchor(&mut self, node: Node) -> Node {
        self.at += 1;
        node
    }

    fn group(&mut self) -> Result<Node> {
        self.depth += 1;
        if self.depth > 200 {
            return Err(self.bad("groups too deep"));
        }
        let before = (self.fold, self.dot_all);
        if self.eat('?') {
            if self.eat('P') || self.peek() == Some('<') {
                // A name, which a whole match does not need.
                while self.next()? != '>' {}
            } else {
                let mut on = true;
                loop {
                    match self.next()? {
                        ':' => break,
                        '-' => on = false,
                        'i' => self.fold = on,
                        's' => self.dot_all = on,
                        'm' | 'U' => {}
                        // Flags alone hold to the end of the enclosing group.
                        ')' => {
                            self.depth -= 1;
                            return Ok(Node::Concat(vec![]));
                        }
                        _ => return Err(self.bad("an unknown group")),
                    }
                }
            }
        }
        let inner = self.either()?;
        if !self.eat(')') {
            return Err(self.bad("a group without end"));
        }
        (self.fold, self.dot_all) = before;
        self.depth -= 1;
        Ok(inner)
    }

    /// Both cases of letters under `(?i)`.
    fn folded(&self, mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
        if self.fold {
            for (a, b) in ranges.clone() {
                for (low, high, other) in [('a', 'z', 'A'), ('A', 'Z', 'a')] {
                    let (x, y) = (a.max(low), b.min(high));
                    if x <= y {
                        let shift = |c: char| (c as u8 - low as u8 + other as u8) as char;
                        ranges.push((shift(x), shift(y)));
                    }
                }
            }
        }
        ranges
    }

    /// What follows a backslash; `true` for everything else.
    fn escape(&mut self) -> Result<(Vec<(char, char)>, bool)> {
        let one = |c: char| (vec![(c, c)], false);
        let space = vec![('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
        let word = vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
        Ok(match self.next()? {
            'd' => (vec![('0', '9')], false),
            'D' => (vec![('0', '9')], true),
            'w' => (word, false),
            'W' => (word, true),
            's' => (space, false),
            'S' => (space, true),
            'n' => one('\n'),
            't' => one('\t'),
            'r' => one('\r'),
            'f' => one('\u{c}'),
            'v' => one('\u{b}'),
            'a' => one('\u{7}'),
            'x' => {
                let digits: String = if self.eat('{') {
                    let rest = self.chars[self.at..].iter();
                    rest.take_while(|&&c| c != '}').collect()
                } else {
                    self.chars[self.at..].iter().take(2).collect()
                };
                self.at += digits.chars().count();
                self.eat('}');
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                one(code.ok_or_else(|| self.bad("a bad code"))?)
            }
            c if c.is_ascii_alphanumeric() => return Err(self.bad("an unknown escape")),
            c => one(c),
        })
    }

    fn class(&mut self) -> Result<Node> {
        let negated = self.eat('^');
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        loop {
            let c = match self.next()? {
                ']' if !first => break,
                '[' if self.peek() == Some(':') => {
                    ranges.extend(self.named()?);
                    first = false;
                    continue;
                }
                '\\' => match self.escape()? {
                    (list, false) if list.len() == 1 && list[0].0 == list[0].1 => list[0].0,
                    (list, false) => {
                        ranges.extend(list);
                        first = false;
                        continue;
                    }
                    (list, true) => {
                        ranges.extend(complement(list));
                        first = false;
                        continue;
                    }
                },
                c => c,
            };
            first = false;
            let range = self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
            if !range {
                ranges.push((c, c));
                continue;
            }
            self.at += 1;
            let end = match self.next()? {
                '\\' => self.escape()?.0.first().map_or(c, |r| r.0),
                end => end,
            };
            if end < c {
                return Err(self.bad("a range that runs backwards"));
            }
            ranges.push((c, end));
        }
        Ok(Node::Class(self.folded(ranges), negated))
    }

    /// `[:alpha:]` and its like, within a class.
    fn named(&mut self) -> Result<Vec<(char, char)>> {
        let rest: String = self.chars[self.at..].iter().take(12).collect();
        let known: [(&str, &[(char, char)]); 8] = [
            (":alpha:]", &[('A', 'Z'), ('a', 'z')]),
            (":digit:]", &[('0', '9')]),
            (":alnum:]", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
            (":upper:]", &[('A', 'Z')]),
            (":lower:]", &[('a', 'z')]),
            (":space:]", &[('\t', '\r'), (' ', ' ')]),
            (":punct:]", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
            (":word:]", &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        ];
        match known.iter().find(|k| rest.starts_with(k.0)) {
            Some((name, ranges)) => {
                self.at += name.len();
                Ok(ranges.to_vec())
            }
            None => Err(self.bad("an unknown class")),
        }
    }
}

/// Everything outside the ranges.
fn complement(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut out = Vec::new();
    let mut from = Some('\0');
    for (a, b) in ranges {
        if let (Some(start), Some(end)) = (from, ('\0'..a).next_back())
            && start <= end
        {
            out.push((start, end));
        }
        from = (b..=char::MAX).nth(1);
    }
    out.extend(from.map(|f| (f, char::MAX)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_strings() {
        for (pattern, yes, no) in [
            ("a*b", &["b", "aab"][..], &["a", "abb"][..]),
            ("(ab|c){2,3}", &["abc", "cabc"], &["ab", "cccc"]),
            (r"(\W|^)[\w.\-]{0,25}@(yahoo|gmail)\.com(\W|$)", &["account@gmail.com"], &["account@hotmail.com"]),
            ("[^a-c]+", &["xyz"], &["xa", ""]),
            (r"[\D_]x?", &["ax", "_"], &["1"]),
            ("(?i)abc", &["aBc"], &["ab"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("x{,2}", &["x{,2}"], &["xx"]),
            ("", &[""], &["a"]),
        ] {
            let regex = Regex::new(pattern).unwrap();
            yes.iter().for_each(|s| assert!(regex.matches(s), "{pattern} and {s}"));
            no.iter().for_each(|s| assert!(!regex.matches(s), "{pattern} and not {s}"));
        }
        for bad in ["(", "a)", "*", "[a", "a{2000}", "((((a{1000}){1000}){1000}){1000})"] {
            assert!(Regex::new(bad).is_err(), "{bad}");
        }
    }
}
