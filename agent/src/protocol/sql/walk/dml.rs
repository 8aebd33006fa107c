//! INSERT, UPDATE, DELETE, MERGE.

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, DoUpdate, Expr, FromTable, Insert, Merge, MergeAction, MergeClause,
    MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, MergeUpdateKind, ObjectName, OnConflict,
    OnConflictAction, OnInsert, OutputClause, SelectItem, TableAlias, TableFactor, TableObject,
    TableWithJoins, Update, UpdateTableFromKind,
};

use super::super::facts::{parts, relation};
use super::super::types::{Lineage, RelationName};
use super::{Shape, Walker};
use crate::model::{Effect, ObjectKind};

impl Walker {
    /// Notes that `effect` falls on a stored relation; a name of WITH cannot be changed, so it is never one.
    fn target(&mut self, effect: Effect, name: &ObjectName) -> Option<RelationName> {
        let Some(target) = parts(name).and_then(|parts| relation(&parts)) else {
            self.unsupported("such a name for a table");
            return None;
        };
        self.facts.on(effect, &target);
        // An UPDATE of this view is a set_config of whatever its rows say.
        if &*target.name == "pg_settings" {
            self.facts
                .on_named(Effect::Session, ObjectKind::Setting, "search_path");
            self.facts
                .not_known("a change of pg_settings can change any setting");
        }
        Some(target)
    }

    pub(super) fn insert(&mut self, insert: &Insert) -> Shape {
        let Insert {
            insert_token: _,
            optimizer_hints,
            or,
            ignore,
            into,
            table,
            table_alias,
            columns: _,
            overwrite,
            source,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on,
            returning,
            output,
            replace_into,
            priority,
            insert_alias,
            settings,
            format_clause,
            multi_table_insert_type,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause,
        } = insert;
        let foreign = !optimizer_hints.is_empty()
            || or.is_some()
            || *ignore
            || !*into
            || *overwrite
            || !assignments.is_empty()
            || partitioned.is_some()
            || !after_columns.is_empty()
            || *has_table_keyword
            || output.is_some()
            || *replace_into
            || priority.is_some()
            || insert_alias.is_some()
            || settings.is_some()
            || format_clause.is_some()
            || multi_table_insert_type.is_some()
            || !multi_table_into_clauses.is_empty()
            || !multi_table_when_clauses.is_empty()
            || multi_table_else_clause.is_some();
        if foreign {
            self.unsupported("an INSERT with clauses that PostgreSQL does not have");
        }
        let TableObject::TableName(name) = table else {
            self.unsupported("an INSERT into something that is not a table");
            return None;
        };
        let target = self.target(Effect::Write, name)?;
        let shape = source
            .as_ref()
            .map_or_else(|| Some(Vec::new()), |source| self.query(source));
        self.facts.sink |= !shape
            .as_ref()
            .is_some_and(|columns| columns.iter().all(|column| column.lineage.is_constant()));
        let alias = table_alias
            .as_ref()
            .map(|alias| alias.alias.value.as_str().into());
        self.scopes.push(Vec::new());
        self.push_target(alias, &target);
        match on {
            None => {}
            Some(OnInsert::OnConflict(OnConflict {
                conflict_target: _,
                action,
            })) => match action {
                OnConflictAction::DoNothing => {}
                OnConflictAction::DoUpdate(DoUpdate {
                    assignments,
                    selection,
                }) => {
                    self.facts.on(Effect::Modify, &target);
                    match shape {
                        Some(columns) => self.push_excluded(&target, &columns),
                        None => self.push_excluded(
                            &target,
                            &[super::Output {
                                name: None,
                                lineage: Lineage::Unknown,
                            }],
                        ),
                    }
                    self.assignments(assignments);
                    if let Some(selection) = selection {
                        self.expr(selection);
                    }
                    // RETURNING does not see `excluded`.
                    if let Some(scope) = self.scopes.last_mut() {
                        scope.truncate(1);
                    }
                }
            },
            // The parser declares this enum non-exhaustive.
            Some(_) => {
                self.unsupported("ON DUPLICATE KEY");
            }
        }
        let shape = self.returning(returning.as_deref(), &target);
        self.scopes.pop();
        shape
    }

    fn assignments(&mut self, assignments: &[Assignment]) {
        for Assignment { target, value } in assignments {
            match target {
                AssignmentTarget::ColumnName(_) | AssignmentTarget::Tuple(_) => {}
            }
            let lineage = self.expr(value);
            self.facts.sink |= !lineage.is_constant();
        }
    }

    fn returning(&mut self, items: Option<&[SelectItem]>, target: &RelationName) -> Shape {
        let Some(items) = items else {
            return Some(Vec::new());
        };
        self.facts.on(Effect::Read, target);
        self.projection(items)
    }

    /// A table in the place where a statement names what it changes.
    fn changed(&mut self, effect: Effect, table: &TableFactor) -> Option<RelationName> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } = table
        else {
            self.unsupported("a change of something that is not a table");
            return None;
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
            self.unsupported("a table with hints or partitions");
        }
        let target = self.target(effect, name)?;
        let alias = alias.as_ref().map(
            |TableAlias {
                 explicit: _,
                 name,
                 columns: _,
                 at: _,
             }| name.value.as_str().into(),
        );
        self.push_target(alias, &target);
        Some(target)
    }

    pub(super) fn update(&mut self, update: &Update) -> Shape {
        let Update {
            update_token: _,
            optimizer_hints,
            table: TableWithJoins { relation, joins },
            assignments,
            from,
            selection,
            returning,
            output,
            or,
            order_by,
            limit,
        } = update;
        if !optimizer_hints.is_empty()
            || !joins.is_empty()
            || output.is_some()
            || or.is_some()
            || !order_by.is_empty()
            || limit.is_some()
        {
            self.unsupported("an UPDATE with clauses that PostgreSQL does not have");
        }
        self.scopes.push(Vec::new());
        let target = self.changed(Effect::Modify, relation);
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(tables)) => self.tables(tables),
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                self.unsupported("an UPDATE with FROM before SET");
            }
        }
        self.assignments(assignments);
        self.selection(selection.as_ref());
        let shape = target.and_then(|target| self.returning(returning.as_deref(), &target));
        self.scopes.pop();
        shape
    }

    fn tables(&mut self, tables: &[TableWithJoins]) {
        for TableWithJoins { relation, joins } in tables {
            self.table_with_joins(relation, joins);
        }
    }

    fn selection(&mut self, selection: Option<&Expr>) {
        match selection {
            Some(selection) => {
                self.expr(selection);
            }
            None => self.facts.without_where = true,
        }
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Shape {
        let Delete {
            delete_token: _,
            optimizer_hints,
            tables,
            from,
            using,
            selection,
            returning,
            output,
            order_by,
            limit,
        } = delete;
        if !optimizer_hints.is_empty()
            || !tables.is_empty()
            || output.is_some()
            || !order_by.is_empty()
            || limit.is_some()
        {
            self.unsupported("a DELETE with clauses that PostgreSQL does not have");
        }
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
        let [TableWithJoins { relation, joins }] = from.as_slice() else {
            self.unsupported("a DELETE from several tables");
            return None;
        };
        if !joins.is_empty() {
            self.unsupported("a DELETE from a join");
        }
        self.scopes.push(Vec::new());
        let target = self.changed(Effect::Delete, relation);
        if let Some(using) = using {
            self.tables(using);
        }
        self.selection(selection.as_ref());
        let shape = target.and_then(|target| self.returning(returning.as_deref(), &target));
        self.scopes.pop();
        shape
    }

    pub(super) fn merge(&mut self, merge: &Merge) -> Shape {
        let Merge {
            merge_token: _,
            optimizer_hints,
            into: _,
            table,
            source,
            on,
            clauses,
            output,
        } = merge;
        if !optimizer_hints.is_empty() {
            self.unsupported("MERGE with hints");
        }
        self.scopes.push(Vec::new());
        let target = self.changed(Effect::Modify, table);
        self.table_with_joins(source, &[]);
        self.expr(on);
        for MergeClause {
            when_token: _,
            clause_kind: _,
            predicate,
            action,
        } in clauses
        {
            if let Some(predicate) = predicate {
                self.expr(predicate);
            }
            match action {
                MergeAction::DoNothing {
                    do_token: _,
                    nothing_token: _,
                } => {}
                MergeAction::Delete { delete_token: _ } => {
                    if let Some(target) = &target {
                        self.facts.on(Effect::Delete, target);
                    }
                }
                MergeAction::Insert(insert) => {
                    if let Some(target) = &target {
                        self.facts.on(Effect::Write, target);
                    }
                    self.merge_insert(insert);
                }
                MergeAction::Update(MergeUpdateExpr {
                    update_token: _,
                    kind,
                    update_predicate,
                    delete_predicate,
                }) => {
                    match kind {
                        MergeUpdateKind::Set(assignments) => self.assignments(assignments),
                        MergeUpdateKind::Wildcard => {
                            self.unsupported("MERGE … UPDATE *");
                        }
                    }
                    if update_predicate.is_some() || delete_predicate.is_some() {
                        self.unsupported("MERGE with predicates on its actions");
                    }
                }
            }
        }
        let shape = match (output, &target) {
            (None, _) => Some(Vec::new()),
            (
                Some(OutputClause::Returning {
                    returning_token: _,
                    select_items,
                }),
                Some(target),
            ) => self.returning(Some(select_items), target),
            (Some(OutputClause::Returning { .. } | OutputClause::Output { .. }), _) => {
                self.unsupported("MERGE … OUTPUT");
                None
            }
        };
        self.scopes.pop();
        shape
    }

    fn merge_insert(&mut self, insert: &MergeInsertExpr) {
        let MergeInsertExpr {
            insert_token: _,
            columns: _,
            kind_token: _,
            kind,
            insert_predicate,
        } = insert;
        if insert_predicate.is_some() {
            self.unsupported("MERGE with predicates on its actions");
        }
        match kind {
            MergeInsertKind::Values(values) => {
                let shape = self.values(values);
                self.facts.sink |=
                    !shape.is_some_and(|columns| columns.iter().all(|column| column.lineage.is_constant()));
            }
            MergeInsertKind::Row | MergeInsertKind::Wildcard => {
                self.unsupported("MERGE … INSERT of a whole row");
            }
        }
    }
}
