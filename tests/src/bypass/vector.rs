//! What is said of one way round: who can try it, and what has to come of it.

/// A way round that the suite tries.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    /// `family/way`, the function in `tests/bypass/ways/`.
    pub name: &'static str,
    /// What is tried, for the table of the threat model.
    pub title: &'static str,
    /// What not every host has and the way cannot do without: a kernel feature, a program. Empty: it has to be there.
    pub needs: &'static str,
    /// The managed cgroup that it runs in.
    pub under: Under,
    /// When it is run.
    pub when: When,
    /// What comes of it for a job without privileges.
    pub nobody: ByTier,
    /// What comes of it for a job that is root.
    pub root: ByTier,
    /// What comes of it on kernels that lack something.
    pub older: Option<Older>,
    /// Why it is open, where it is.
    pub hole: Option<Hole>,
}

/// What comes of a way round on older kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Older {
    /// Version and patch level of the first kernel on which this is over.
    pub than: (u32, u32),
    /// What comes of it before, for whoever can do it.
    pub outcome: ByTier,
}

/// The policy of the cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// `egress = "allow"`: only protected destinations are in question.
    Allow,
    /// `egress = "deny"`.
    Deny,
}

/// When a vector is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Against a running agent, one after another.
    Running,
    /// Begun before the agent starts.
    Across,
    /// At the end, against an agent that is not needed any more: it harms it.
    Last,
    /// As [`When::Last`], against an agent that has been killed.
    Down,
}

/// What comes of it without and with the programs on security hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByTier {
    /// Where the kernel does not take them.
    pub without: Outcome,
    /// Where it does.
    pub lsm: Outcome,
}

/// What comes of a way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination is reached, by way of the proxy, and the record has it.
    Proxied,
    /// The destination is not reached, and one of these programs has counted it.
    Stopped(&'static [&'static str]),
    /// Either of the two, depending on who is faster.
    Shut(&'static [&'static str]),
    /// The destination is reached directly.
    Open,
    /// Directly or by way of the proxy, depending on who is faster.
    Race,
    /// Not without something that this user lacks on any host, Tollgate or not.
    Impossible(&'static str),
}

/// Why a way is open.
#[derive(Clone, Copy, Debug)]
pub struct Hole {
    /// The reason.
    pub why: &'static str,
    /// What closes it on a host today.
    pub closes: &'static str,
}

/// Who tries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// A user without privileges.
    Nobody,
    /// Root, with every capability, inside the managed cgroup.
    Root,
}

/// Whether the programs on security hooks are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// They are not.
    Without,
    /// They are.
    Lsm,
}

impl Outcome {
    /// Whether the destination may be reached directly.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Race)
    }
}

impl User {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nobody, Self::Root];

    /// Its name on the host.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => crate::job::NOBODY,
            Self::Root => "root",
        }
    }
}

impl Tier {
    /// Its name in the matrix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Without => "without",
            Self::Lsm => "lsm",
        }
    }
}

impl ByTier {
    /// The same on both.
    pub const fn both(outcome: Outcome) -> Self {
        Self {
            without: outcome,
            lsm: outcome,
        }
    }
}

impl Vector {
    /// A vector that has to be possible on every host and must not get round for anybody.
    pub const fn new(name: &'static str, title: &'static str, outcome: Outcome) -> Self {
        Self {
            name,
            title,
            needs: "",
            under: Under::Allow,
            when: When::Running,
            nobody: ByTier::both(outcome),
            root: ByTier::both(outcome),
            older: None,
            hole: None,
        }
    }

    /// A vector that is open for everybody without the programs on security hooks.
    pub const fn open(
        name: &'static str,
        title: &'static str,
        why: &'static str,
        closes: &'static str,
    ) -> Self {
        Self::new(name, title, Outcome::Open).because(why, closes)
    }

    /// The same, with the reason why it is open.
    #[must_use]
    pub const fn because(mut self, why: &'static str, closes: &'static str) -> Self {
        self.hole = Some(Hole { why, closes });
        self
    }

    /// The same, but on kernels before `than` this comes of it; what is impossible stays so.
    #[must_use]
    pub const fn before(mut self, than: (u32, u32), without: Outcome, lsm: Outcome) -> Self {
        self.older = Some(Older {
            than,
            outcome: ByTier { without, lsm },
        });
        self
    }

    /// The same, but it needs something.
    #[must_use]
    pub const fn needs(mut self, what: &'static str) -> Self {
        self.needs = what;
        self
    }

    /// The same, under `egress = "deny"`.
    #[must_use]
    pub const fn under_deny(mut self) -> Self {
        self.under = Under::Deny;
        self
    }

    /// The same, at another time.
    #[must_use]
    pub const fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// The same, but a user without privileges cannot do it anywhere.
    #[must_use]
    pub const fn root_only(mut self, lacks: &'static str) -> Self {
        self.nobody = ByTier::both(Outcome::Impossible(lacks));
        self
    }

    /// The same, but this comes of it where the programs on security hooks are; what is impossible stays so.
    #[must_use]
    pub const fn with_lsm(mut self, outcome: Outcome) -> Self {
        if !matches!(self.nobody.lsm, Outcome::Impossible(_)) {
            self.nobody.lsm = outcome;
        }
        self.root.lsm = outcome;
        self
    }

    /// The same, but this comes of it for root.
    #[must_use]
    pub const fn root(mut self, outcome: ByTier) -> Self {
        self.root = outcome;
        self
    }

    /// What has to come of it on a kernel of this version.
    pub fn expected(&self, user: User, tier: Tier, kernel: (u32, u32)) -> Outcome {
        let now = match user {
            User::Nobody => self.nobody,
            User::Root => self.root,
        };
        let by_tier = match self.older {
            Some(older) if kernel < older.than && !matches!(now.without, Outcome::Impossible(_)) => {
                older.outcome
            }
            _ => now,
        };
        match tier {
            Tier::Without => by_tier.without,
            Tier::Lsm => by_tier.lsm,
        }
    }

    /// Whether it is open for anybody on some host.
    pub fn is_open(&self) -> bool {
        [self.nobody, self.root]
            .into_iter()
            .chain(self.older.map(|older| older.outcome))
            .any(|by_tier| by_tier.without.is_open() || by_tier.lsm.is_open())
    }
}
