//! One command text, made ready to be judged and run: the classifier's batch, completed by what session and
//! catalog know.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

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
    /// How its rows are treated, once the server has described them. Never that of another portal of the same
    /// statement: between the two, the server may have planned it anew, with names that stand for other tables.
    pub plan: OnceLock<Arc<RowPlan>>,
    /// One more than the stretch in which it was last asked to be described.
    described: AtomicU64,
    /// Result formats; not set for a `Bind` that was streamed and is not described yet.
    pub formats: OnceLock<Formats>,
    pub parameters: Vec<Parameter>,
    /// Binds an approval: statement and `Bind` body.
    pub hash: [u8; 32],
    /// Stretch in which it was bound.
    pub epoch: u64,
    pub cursor: bool,
    pub approved: AtomicBool,
    pub executed: AtomicBool,
}

impl Portal {
    pub(super) fn of(unit: Arc<Unit>, epoch: u64) -> Self {
        Self {
            hash: unit.hash,
            unit,
            plan: OnceLock::new(),
            described: AtomicU64::new(0),
            formats: OnceLock::new(),
            parameters: Vec::new(),
            epoch,
            cursor: false,
            approved: AtomicBool::new(false),
            executed: AtomicBool::new(false),
        }
    }

    pub(super) fn describe_in(&self, epoch: u64) {
        self.described.store(epoch + 1, Ordering::Relaxed);
    }

    pub(super) fn is_described_in(&self, epoch: u64) -> bool {
        self.described.load(Ordering::Relaxed) == epoch + 1
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
    /// The catalog has been asked past what is remembered of it.
    pub anew: bool,
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

    /// Whether it seems to call a function by `t.f`, and the catalog has not been asked anew.
    pub(super) fn doubts<M>(&self, scope: &Scope<'_, M>) -> bool {
        !self.anew && call_by_field(&self.batch, scope).is_some()
    }

    fn sinks(&self, statement: usize) -> bool {
        self.batch
            .statements
            .get(statement)
            .is_some_and(|statement| statement.sink)
    }

    pub(super) fn unit<M: Masking>(self, scope: &Scope<'_, M>, epoch: u64) -> Unit {
        let mut unit = of_batch(&self.batch, scope, self.hash, epoch);
        unit.types.clone_from(&self.types);
        let mut command = None;
        for (index, refers) in self.refers.iter().enumerate() {
            match refers {
                Refers::Nothing => {}
                Refers::Statement(Some(prepared)) => {
                    let command = command.get_or_insert_with(|| Command::clone(&unit.command));
                    join(command, &prepared.command);
                    // CREATE TABLE … AS EXECUTE
                    if self.sinks(index) && prepared.may_give_masked() {
                        join(command, &declassifying());
                    }
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
                    if self.sinks(index) && scope.masks.has_columns() {
                        let command = command.get_or_insert_with(|| Command::clone(&unit.command));
                        join(command, &declassifying());
                    }
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
        let fields = statement.fields.iter().flatten();
        names.extend(fields.filter_map(|field| field.relation.clone()));
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
    if let Some(function) = call_by_field(batch, scope) {
        join(&mut command, &function);
    }
    if scope.masks.has_columns() && declassifies(batch, scope) {
        join(&mut command, &declassifying());
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
                        ..Portal::of(inner, epoch)
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

/// Whether an action changes what columns the relations of that name have.
pub(super) fn alters(action: &Action, name: &str) -> bool {
    matches!(action.effect, Effect::SchemaCreate | Effect::SchemaAlter)
        && action
            .object
            .as_ref()
            .is_some_and(|object| object.kind == ObjectKind::Table && &*object.name == name)
}

fn declassifying() -> Command {
    let action = Action {
        effect: Effect::Declassify,
        object: None,
    };
    Command {
        actions: vec![action],
        unknown: None,
        ..Command::unknown("", "")
    }
}

/// The call of a function that nobody knows, written as a column of a table that has none of that name: `t.f` is `f(t)`.
fn call_by_field<M>(batch: &Batch, scope: &Scope<'_, M>) -> Option<Command> {
    for statement in &batch.statements {
        let Some(fields) = &statement.fields else {
            return Some(Command::unknown(
                "",
                "it names too many columns to look all of them up",
            ));
        };
        for field in fields {
            let name = field.relation.as_ref()?;
            let altered = batch
                .command
                .actions
                .iter()
                .any(|action| alters(action, &name.name));
            if !altered && scope.lacks(name, &field.column) {
                let mut command =
                    Command::unknown("", format!("what function {} does is not known", field.column));
                for action in &mut command.actions {
                    action.object = Some(Object {
                        kind: ObjectKind::Function,
                        schema: Schema::Unresolved,
                        name: Arc::clone(&field.column),
                    });
                }
                return Some(command);
            }
        }
    }
    None
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
    /// Whether any column of its results is treated, or may have to be.
    fn may_give_masked(&self) -> bool {
        let treated = |treat: &Treat| *treat != Treat::Pass;
        self.shadows.iter().any(|shadow| match &shadow.columns {
            Some(columns) => columns.iter().any(treated),
            None => treated(&shadow.other),
        })
    }

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
        }
    }

    /// Whether COPY data come of it that have to be read to be masked.
    pub(super) fn masks_copy<M: Masking>(&self, masks: &M) -> bool {
        let reads = |copy: &CopyShadow| match copy {
            CopyShadow::Columns(treats, _) => !treats.is_empty() || masks.has_detectors(),
            CopyShadow::None | CopyShadow::Refused(_) => false,
        };
        self.shadows.iter().any(|shadow| reads(&shadow.copy))
    }
}
