//! Globs over cgroup paths and over names, and the two questions that checks ask of them: can two match the same
//! thing, and does one match everything that another does.
//!
//! `?` is one character, `[a-z]` and `[!a-z]` one of a set, `*` any number. In paths all three stay within one level
//! and `**` does not. A backslash is a character like any other: systemd writes it into unit names (`\x2d`).
//! Braces are refused, because half of the world reads them as alternatives.

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
}

/// Why a glob is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing in it.
    #[error("the pattern is empty")]
    Empty,
    /// `[` without `]`, or nothing between them.
    #[error("the pattern has a \"[\" without its \"]\"")]
    OpenSet,
    /// `[z-a]`.
    #[error("the pattern has a range that ends before it starts: \"{0}-{1}\"")]
    BackwardRange(char, char),
    /// A character that has no meaning in patterns and would be taken for one.
    #[error("the pattern has a \"{0}\"")]
    Reserved(char),
    /// `**` where there are no levels.
    #[error("the pattern has \"**\", which is for paths")]
    DoubleStar,
    /// Longer than 512 bytes.
    #[error("the pattern is longer than {LONGEST} bytes")]
    TooLong,
}

/// Longest pattern, in bytes. Far above any path or name; keeps comparisons of two patterns quick.
const LONGEST: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    One(Set),
    /// Any number of characters of the set.
    Many(Set),
}

/// A set of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    Literal(char),
    All,
    /// All but `/`.
    Level,
    In(Vec<(char, char)>),
    /// All but these.
    NotIn(Vec<(char, char)>),
}

impl Glob {
    /// A glob over paths: `/` separates levels.
    pub fn path(pattern: &str) -> Result<Self, GlobError> {
        Self::parse(pattern, true)
    }

    /// A glob over names, which have no levels.
    pub fn name(pattern: &str) -> Result<Self, GlobError> {
        Self::parse(pattern, false)
    }

    /// The glob over names that matches everything.
    pub fn any() -> Self {
        Self {
            tokens: vec![Token::Many(Set::All)],
        }
    }

    /// Whether `text` matches, as a whole. Time is linear in the product of both lengths, whatever the pattern.
    pub fn matches(&self, text: &str) -> bool {
        if self.is_any() {
            return true;
        }
        match self.literal() {
            Some(literal) => text.chars().map(Some).eq(literal),
            None => self.matches_by_states(text),
        }
    }

    /// Whether everything matches.
    pub fn is_any(&self) -> bool {
        !self.tokens.is_empty() && self.tokens.iter().all(|token| *token == Token::Many(Set::All))
    }

    /// Whether some text matches both. May say yes for two sets in brackets that share no character.
    pub fn intersects(&self, other: &Self) -> bool {
        // Cell (i, j): the first i tokens here and the first j there can have matched the same text.
        let (rows, columns) = (self.tokens.len() + 1, other.tokens.len() + 1);
        let mut reached = vec![false; rows * columns];
        let mut todo = vec![(0, 0)];
        while let Some((i, j)) = todo.pop() {
            match reached.get_mut(i * columns + j) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            let (here, there) = (self.tokens.get(i), other.tokens.get(j));
            if here.is_none() && there.is_none() {
                return true;
            }
            if matches!(here, Some(Token::Many(_))) {
                todo.push((i + 1, j));
            }
            if matches!(there, Some(Token::Many(_))) {
                todo.push((i, j + 1));
            }
            if let (Some(here), Some(there)) = (here, there)
                && here.set().overlaps(there.set())
            {
                todo.push((i + usize::from(here.is_one()), j + usize::from(there.is_one())));
            }
        }
        false
    }

    /// Whether this matches everything that `other` matches. May say no where it does, never yes where it does not.
    pub fn covers(&self, other: &Self) -> bool {
        // As `matches`, with the tokens of the other glob for characters: a star may take any run of tokens whose
        // characters it may take, and a token for one character only a token for one.
        let mut states = vec![false; self.tokens.len() + 1];
        start(&mut states, &self.tokens);
        for token in &other.tokens {
            let mut next = vec![false; states.len()];
            for (i, mine) in self.tokens.iter().enumerate() {
                if states.get(i) != Some(&true) || !mine.set().includes(token.set()) {
                    continue;
                }
                match mine {
                    Token::Many(_) => set(&mut next, i),
                    Token::One(_) if token.is_one() => set(&mut next, i + 1),
                    Token::One(_) => {}
                }
            }
            skip_stars(&mut next, &self.tokens);
            states = next;
        }
        states.last() == Some(&true)
    }

    /// The characters, where there is nothing but characters.
    fn literal(&self) -> Option<impl Iterator<Item = Option<char>>> {
        let character = |token: &Token| match token {
            Token::One(Set::Literal(c)) => Some(*c),
            _ => None,
        };
        self.tokens
            .iter()
            .all(|token| character(token).is_some())
            .then(|| self.tokens.iter().map(character))
    }

    fn matches_by_states(&self, text: &str) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        start(&mut states, &self.tokens);
        for c in text.chars() {
            let mut next = vec![false; states.len()];
            for (i, token) in self.tokens.iter().enumerate() {
                if states.get(i) == Some(&true) && token.set().contains(c) {
                    set(&mut next, i + usize::from(token.is_one()));
                }
            }
            skip_stars(&mut next, &self.tokens);
            states = next;
        }
        states.last() == Some(&true)
    }

    fn parse(pattern: &str, levels: bool) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        if pattern.len() > LONGEST {
            return Err(GlobError::TooLong);
        }
        let plain = if levels { Set::Level } else { Set::All };
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    if !levels {
                        return Err(GlobError::DoubleStar);
                    }
                    Token::Many(Set::All)
                }
                '*' => Token::Many(plain.clone()),
                '?' => Token::One(plain.clone()),
                '[' => Token::One(set_of(&mut rest, levels)?),
                '{' | '}' | ']' => return Err(GlobError::Reserved(c)),
                '\\' if !levels => return Err(GlobError::Reserved(c)),
                c => Token::One(Set::Literal(c)),
            });
        }
        Ok(Self { tokens })
    }
}

impl Token {
    fn set(&self) -> &Set {
        match self {
            Token::One(set) | Token::Many(set) => set,
        }
    }

    fn is_one(&self) -> bool {
        matches!(self, Token::One(_))
    }
}

impl Set {
    fn contains(&self, c: char) -> bool {
        let within = |ranges: &[(char, char)]| ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
        match self {
            Set::Literal(literal) => *literal == c,
            Set::All => true,
            Set::Level => c != '/',
            Set::In(ranges) => within(ranges),
            Set::NotIn(ranges) => !within(ranges),
        }
    }

    fn overlaps(&self, other: &Set) -> bool {
        match (self, other) {
            (Set::Literal(c), set) | (set, Set::Literal(c)) => set.contains(*c),
            (Set::In(ranges), Set::In(others)) => ranges
                .iter()
                .any(|(from, to)| others.iter().any(|(low, high)| from <= high && low <= to)),
            _ => true,
        }
    }

    fn includes(&self, other: &Set) -> bool {
        match (self, other) {
            (Set::All, _) => true,
            (set, Set::Literal(c)) => set.contains(*c),
            (Set::Level, Set::In(ranges)) => !ranges.iter().any(|(from, to)| (*from..=*to).contains(&'/')),
            (Set::Level, Set::NotIn(ranges)) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&'/')),
            (mine, other) => mine == other,
        }
    }
}

/// The rest of a set, its `[` taken. In paths (`levels`) no set has a `/`.
fn set_of(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, levels: bool) -> Result<Set, GlobError> {
    let negated = rest.next_if_eq(&'!').is_some();
    if rest.peek() == Some(&'^') {
        return Err(GlobError::Reserved('^'));
    }
    let mut ranges = Vec::new();
    loop {
        let from = rest.next().ok_or(GlobError::OpenSet)?;
        if from == ']' {
            break;
        }
        let mut to = from;
        if rest.next_if_eq(&'-').is_some() {
            match rest.next() {
                // `[a-]`: the hyphen itself.
                Some(']') => {
                    ranges.extend([(from, from), ('-', '-')]);
                    break;
                }
                Some(end) => to = end,
                None => return Err(GlobError::OpenSet),
            }
        }
        if to < from {
            return Err(GlobError::BackwardRange(from, to));
        }
        ranges.push((from, to));
    }
    if ranges.is_empty() {
        return Err(GlobError::OpenSet);
    }
    if levels && ranges.iter().any(|(from, to)| (*from..=*to).contains(&'/')) {
        return Err(GlobError::Reserved('/'));
    }
    if !negated {
        return Ok(Set::In(ranges));
    }
    if levels {
        ranges.push(('/', '/'));
    }
    Ok(Set::NotIn(ranges))
}

fn start(states: &mut [bool], tokens: &[Token]) {
    set(states, 0);
    skip_stars(states, tokens);
}

/// A star may match nothing: who stands before one stands behind it as well.
fn skip_stars(states: &mut [bool], tokens: &[Token]) {
    for (i, token) in tokens.iter().enumerate() {
        if !token.is_one() && states.get(i) == Some(&true) {
            set(states, i + 1);
        }
    }
}

fn set(states: &mut [bool], at: usize) {
    if let Some(state) = states.get_mut(at) {
        *state = true;
    }
}

#[cfg(test)]
mod tests;
