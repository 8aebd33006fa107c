//! One command text, made ready to be judged and run: the classifier's batch, completed by what session and
//! catalog know.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::model::{Action, Command, Effect, Object, ObjectKind, Parameter, Schema};
use crate::protocol::sql::{Batch, RelationName, SessionChange};

use super::lineage::{CopyShadow, Scope, Shadow, Treat};
use super::masking::Masking;
use super::rows::{Formats, RowPlan};
use super::traits::Traits;

/// One command text, ready to be judged.
#[derive(Debug)]
pub(super) struct Unit {
    pub command: Arc<Command>,
    /// BLAKE3 of text and parameter types.
    pub hash: [u8; 32],
    /// One a statement.
    pub shadows: Vec<Arc<Shadow>>,
    /// Names that its statements make, by position of the statement.
    pub defines: Vec<Define>,
    /// Why it cannot be masked, and what to do instead.
    pub obstacle: Option<&'static str>,
    /// Ranges of the text that hold secrets.
    pub secrets: Vec<Range<usize>>,
    pub traits: Traits,
    /// Parameter types as `Parse` gave them.
    pub types: Box<[u8]>,
    /// Names that it looks up when it runs, and what they stood for when it was judged.
    pub refers: Vec<(Arc<str>, Refers)>,
    /// How its rows are treated, once the server has described them.
    pub plan: Plan,
    /// Stretch, and age of the names, in which it was last asked to be described.
    described: Mutex<Option<(u64, u64)>>,
}

/// How the rows of a prepared statement are treated. A change of what names stand for may change that.
#[derive(Debug, Default)]
pub(super) struct Plan(Mutex<Option<(u64, Arc<RowPlan>)>>);

impl Plan {
    /// The plan, if it was made when names stood for what they stood for at `age`.
    pub(super) fn at(&self, age: u64) -> Option<Arc<RowPlan>> {
        self.0
            .lock()
            .as_ref()
            .filter(|plan| plan.0 == age)
            .map(|plan| Arc::clone(&plan.1))
    }

    pub(super) fn set(&self, age: u64, plan: Arc<RowPlan>) {
        *self.0.lock() = Some((age, plan));
    }
}

/// A name that a statement makes.
#[derive(Debug)]
pub(super) struct Define {
    pub statement: usize,
    pub name: Arc<str>,
    pub what: Defined,
}

#[derive(Clone, Debug)]
pub(super) enum Defined {
    Statement(Arc<Unit>),
    Cursor(Arc<Portal>),
}

/// A portal, or an SQL cursor, which is one.
#[derive(Debug)]
pub(super) struct Portal {
    pub unit: Arc<Unit>,
    /// How its rows are treated, once that is known for certain.
    pub plan: OnceLock<Arc<RowPlan>>,
    /// Result formats; not set for a `Bind` that was streamed and is not described yet.
    pub formats: OnceLock<Formats>,
    pub parameters: Vec<Parameter>,
    /// Binds an approval: statement and `Bind` body.
    pub hash: [u8; 32],
    /// Stretch in which it was bound.
    pub epoch: u64,
    /// What names stood for then.
    pub age: u64,
    pub cursor: bool,
    pub approved: AtomicBool,
    pub executed: AtomicBool,
}

impl Portal {
    pub(super) fn of(unit: Arc<Unit>, epoch: u64, age: u64) -> Self {
        Self {
            hash: unit.hash,
            unit,
            plan: OnceLock::new(),
            age,
            formats: OnceLock::new(),
            parameters: Vec::new(),
            epoch,
            cursor: false,
            approved: AtomicBool::new(false),
            executed: AtomicBool::new(false),
        }
    }
}

/// A text on its way to a [`Unit`].
#[derive(Debug)]
pub(super) struct Draft {
    pub batch: Arc<Batch>,
    pub hash: [u8; 32],
    pub types: Box<[u8]>,
    /// What `EXECUTE` and `FETCH` refer to, one a statement.
    pub refers: Vec<Refers>,
}

#[derive(Clone, Debug)]
pub(super) enum Refers {
    Nothing,
    Statement(Option<Arc<Unit>>),
    Cursor(Option<Arc<Portal>>),
}

impl Draft {
    /// Relations to ask the catalog for.
    pub(super) fn names<M: Masking>(&self, masks: &M) -> Vec<RelationName> {
        let mut names = BTreeSet::new();
        gather(&self.batch, masks.has_columns(), &mut names);
        names.into_iter().collect()
    }

    pub(super) fn unit<M: Masking>(self, scope: &Scope<'_, M>, epoch: u64) -> Unit {
        let mut unit = of_batch(&self.batch, scope, self.hash, epoch);
        unit.types = self.types;
        let mut command = None;
        for (index, refers) in self.refers.iter().enumerate() {
            match refers {
                Refers::Nothing => {}
                Refers::Statement(Some(prepared)) => {
                    let command = command.get_or_insert_with(|| Command::clone(&unit.command));
                    join(command, &prepared.command);
                    unit.traits = unit.traits.and(prepared.traits);
                    unit.hash = bind(&unit.hash, &prepared.hash);
                    unit.obstacle = unit.obstacle.or(prepared.obstacle);
                    if let (Some(own), Some(shadow)) = (unit.shadows.get_mut(index), prepared.shadows.first())
                    {
                        *own = Arc::clone(shadow);
                    }
                }
                Refers::Cursor(Some(cursor)) => {
                    let command = command.get_or_insert_with(|| Command::clone(&unit.command));
                    join(command, &cursor.unit.command);
                    if let (Some(own), Some(shadow)) =
                        (unit.shadows.get_mut(index), cursor.unit.shadows.first())
                    {
                        *own = Arc::clone(shadow);
                    }
                }
                Refers::Statement(None) => {
                    let command = command.get_or_insert_with(|| Command::clone(&unit.command));
                    join(
                        command,
                        &Command::unknown("", "EXECUTE of a statement that this session has not prepared"),
                    );
                    unit.traits = unit.traits.and(Traits::UNKNOWN);
                    unit.shadows = vec![Arc::new(opaque(scope.masks))];
                }
                Refers::Cursor(None) => {
                    if let Some(own) = unit.shadows.get_mut(index) {
                        *own = Arc::new(opaque(scope.masks));
                    }
                }
            }
        }
        if let Some(command) = command {
            unit.command = Arc::new(command);
        }
        for (statement, refers) in self.batch.statements.iter().zip(self.refers) {
            if let SessionChange::Execute { name } | SessionChange::Fetch { name } = &statement.session {
                unit.refers.push((Arc::clone(name), refers));
            }
        }
        unit
    }
}

/// BLAKE3 of two things, neither of which can pass for a part of the other.
pub(super) fn bind(first: &[u8; 32], second: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(first).update(second);
    *hasher.finalize().as_bytes()
}

fn gather(batch: &Batch, columns: bool, names: &mut BTreeSet<RelationName>) {
    for action in &batch.command.actions {
        if let Some(Object {
            kind: ObjectKind::Table,
            schema: Schema::Unresolved,
            name,
        }) = &action.object
        {
            names.insert(RelationName {
                schema: None,
                name: Arc::clone(name),
            });
        }
    }
    for statement in &batch.statements {
        if columns {
            names.extend(statement.relations.iter().cloned());
        }
        match &statement.session {
            SessionChange::Prepare { statement, .. } | SessionChange::Declare { statement, .. } => {
                gather(statement, columns, names);
            }
            SessionChange::None | SessionChange::Execute { .. } | SessionChange::Fetch { .. } => {}
        }
    }
}

fn of_batch<M: Masking>(batch: &Batch, scope: &Scope<'_, M>, hash: [u8; 32], epoch: u64) -> Unit {
    let mut command = resolved(&batch.command, scope);
    if scope.masks.has_columns() && declassifies(batch, scope) {
        let action = Action {
            effect: Effect::Declassify,
            object: None,
        };
        if !command.actions.contains(&action) {
            command.actions.push(action);
        }
    }
    let shadows: Vec<_> = batch
        .statements
        .iter()
        .map(|statement| Arc::new(scope.shadow(statement)))
        .collect();
    let obstacle = shadows.iter().find_map(|shadow| match shadow.copy {
        CopyShadow::Refused(hint) => Some(hint),
        CopyShadow::None | CopyShadow::Columns(..) => None,
    });
    let mut defines = Vec::new();
    for (position, statement) in batch.statements.iter().enumerate() {
        let (name, what) = match &statement.session {
            SessionChange::Prepare { name, statement } => {
                let inner = Arc::new(of_batch(statement, scope, hash, epoch));
                (name, Defined::Statement(inner))
            }
            SessionChange::Declare { name, statement } => {
                let inner = Arc::new(of_batch(statement, scope, hash, epoch));
                (
                    name,
                    Defined::Cursor(Arc::new(Portal {
                        cursor: true,
                        ..Portal::of(inner, epoch, 0)
                    })),
                )
            }
            SessionChange::None | SessionChange::Execute { .. } | SessionChange::Fetch { .. } => continue,
        };
        defines.push(Define {
            statement: position,
            name: Arc::clone(name),
            what,
        });
    }
    let mut shadows = shadows;
    if command.effects().contains(Effect::Unknown) {
        shadows.fill_with(|| Arc::new(opaque(scope.masks)));
    }
    if shadows.is_empty() && !command.actions.is_empty() {
        shadows.push(Arc::new(opaque(scope.masks)));
    }
    Unit {
        traits: Traits::of(&command, &batch.statements),
        command: Arc::new(command),
        hash,
        shadows,
        defines,
        obstacle,
        secrets: batch.secrets.clone(),
        types: Box::default(),
        refers: Vec::new(),
        plan: Plan::default(),
        described: Mutex::new(None),
    }
}

/// The command, each table that it does not qualify found in the schemas that have it.
fn resolved<M>(command: &Command, scope: &Scope<'_, M>) -> Command {
    let mut command = command.clone();
    for action in &mut command.actions {
        if let Some(Object {
            kind: ObjectKind::Table,
            schema: schema @ Schema::Unresolved,
            name,
        }) = &mut action.object
        {
            let schemas: BTreeSet<_> = scope
                .relations
                .iter()
                .filter(|relation| relation.name == *name)
                .map(|relation| Arc::clone(&relation.schema))
                .collect();
            if !schemas.is_empty() {
                *schema = Schema::AnyOf(schemas.into_iter().collect());
            }
        }
    }
    command
}

fn declassifies<M: Masking>(batch: &Batch, scope: &Scope<'_, M>) -> bool {
    let made = |name: &str| {
        batch.command.actions.iter().any(|action| {
            action.effect == Effect::SchemaCreate
                && action.object.as_ref().is_some_and(|object| &*object.name == name)
        })
    };
    let effects = batch.command.effects();
    let leaks = effects.contains(Effect::UnsafeIo)
        || effects.contains(Effect::Notify)
        || batch.command.actions.iter().any(stores_by_function);
    let exports = effects.contains(Effect::BulkExport);
    batch.statements.iter().any(|statement| {
        (statement.sink || leaks || (exports && statement.copy_out.is_none()))
            && (!statement.relations.is_empty() || statement.opaque)
            && scope.reads_masked(statement, &made)
    })
}

fn stores_by_function(action: &Action) -> bool {
    action.object.as_ref().is_some_and(|object| {
        object.kind == ObjectKind::Function
            && (&*object.name == "set_config" || object.name.starts_with("lo_"))
    })
}

/// What is known of a result when nothing is known of its statement.
pub(super) fn opaque<M: Masking>(masks: &M) -> Shadow {
    let treat = if masks.has_columns() {
        Treat::Null
    } else {
        Treat::Pass
    };
    Shadow {
        other: treat,
        stranger: treat,
        ..Shadow::default()
    }
}

fn join(command: &mut Command, other: &Command) {
    for action in &other.actions {
        if !command.actions.contains(action) {
            command.actions.push(action.clone());
        }
    }
    command.without_where |= other.without_where;
    if command.unknown.is_none() {
        command.unknown.clone_from(&other.unknown);
    }
}

impl Unit {
    /// Whether it surely returns no rows. Of statements that work on the session or call procedures, the classifier
    /// cannot say so.
    pub(super) fn is_rowless(&self) -> bool {
        let effects = self.command.effects();
        let doubtful = [
            Effect::Session,
            Effect::Procedural,
            Effect::Unknown,
            Effect::Maintenance,
            Effect::Read,
        ];
        !self.shadows.is_empty()
            && self.shadows.iter().all(|shadow| shadow.rowless)
            && !doubtful.into_iter().any(|effect| effects.contains(effect))
    }

    /// A statement of which nothing is known, and why.
    pub(super) fn unknown<M: Masking>(masks: &M, text: &str, why: &str, hash: [u8; 32]) -> Self {
        Self {
            command: Arc::new(Command::unknown(text, why)),
            hash,
            shadows: vec![Arc::new(opaque(masks))],
            defines: Vec::new(),
            obstacle: None,
            secrets: Vec::new(),
            traits: Traits::UNKNOWN,
            types: Box::default(),
            refers: Vec::new(),
            plan: Plan::default(),
            described: Mutex::new(None),
        }
    }

    pub(super) fn describe_in(&self, epoch: u64, age: u64) {
        *self.described.lock() = Some((epoch, age));
    }

    pub(super) fn is_described_in(&self, epoch: u64, age: u64) -> bool {
        *self.described.lock() == Some((epoch, age))
    }
}
