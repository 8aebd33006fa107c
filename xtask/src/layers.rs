//! Checks the structure: imports between the agent's stages point one way, aya and `unsafe` stay in `kernel/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::visit::{self, Visit};
use tollgate_tests::agent::workspace;

/// The stages in the order in which a flow passes them; then what puts them together, and the verbs, one of which starts
/// it. A stage imports from itself and from those before it.
const STAGES: &[&str] = &[
    "model",
    "config",
    "kernel",
    "web",
    "flow",
    "identity",
    "policy",
    "dns",
    "mask",
    "finding",
    "tls",
    "protocol",
    "credential",
    "approval",
    "record",
    "ship",
    "replay",
    "engine",
    "control",
    "doctor",
    "app",
    "cli",
    "lib",
    "main",
];

/// Checks every file of the agent, and says each fault with file and line.
pub(crate) fn check() -> Result<()> {
    let source = workspace().join("agent/src");
    let mut faults = Vec::new();
    let mut files = 0_u32;
    for file in rust_files(&source)? {
        let relative = file.strip_prefix(&source)?.to_owned();
        let text = fs::read_to_string(&file)?;
        let tree = syn::parse_file(&text).with_context(|| format!("parse {}", file.display()))?;
        let mut visitor = Visitor {
            stage: stage_of(&relative),
            found: Vec::new(),
        };
        visitor.visit_file(&tree);
        faults.extend(
            visitor
                .found
                .into_iter()
                .map(|(line, fault)| format!("agent/src/{}:{line}: {fault}", relative.display())),
        );
        files += 1;
    }
    if faults.is_empty() {
        report(&format!("layers: {files} files, every import points one way"));
        return Ok(());
    }
    bail!("{}", faults.join("\n"))
}

#[expect(clippy::print_stdout, reason = "a task tells its result")]
fn report(line: &str) {
    println!("{line}");
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn stage_of(relative: &Path) -> String {
    let first = relative
        .iter()
        .next()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(stage: &str) -> Option<usize> {
    STAGES.iter().position(|known| *known == stage)
}

struct Visitor {
    stage: String,
    found: Vec<(usize, String)>,
}

impl Visitor {
    fn name(&mut self, first: &str, second: Option<&str>, line: usize) {
        if first == "aya" && self.stage != "kernel" {
            self.found
                .push((line, format!("`{}` imports aya; only `kernel` may", self.stage)));
        }
        let Some(other) = second.filter(|_| first == "crate" || first == "tollgate") else {
            return;
        };
        match (floor(&self.stage), floor(other)) {
            (Some(here), Some(there)) if there > here => {
                self.found.push((
                    line,
                    format!("`{}` imports the later stage `{other}`", self.stage),
                ));
            }
            (None, _) => self
                .found
                .push((line, format!("`{}` is no stage of the design", self.stage))),
            _ => {}
        }
    }

    fn tree(&mut self, tree: &syn::UseTree, prefix: &[String]) {
        match tree {
            syn::UseTree::Path(path) => {
                let mut prefix = prefix.to_vec();
                prefix.push(path.ident.to_string());
                self.tree(&path.tree, &prefix);
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, prefix)),
            syn::UseTree::Name(syn::UseName { ident })
            | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                let mut path = prefix.to_vec();
                path.push(ident.to_string());
                self.path(&path, ident.span().start().line);
            }
            syn::UseTree::Glob(glob) => self.path(prefix, glob.star_token.spans[0].start().line),
        }
    }

    fn path(&mut self, path: &[String], line: usize) {
        if let Some(first) = path.first() {
            self.name(first, path.get(1).map(String::as_str), line);
        }
    }

    fn unsafety(&mut self, line: usize) {
        if self.stage != "kernel" {
            self.found
                .push((line, format!("`unsafe` in `{}`; only `kernel` may", self.stage)));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(segment) = path.segments.first() {
            self.path(&names, segment.ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast syn::ExprUnsafe) {
        self.unsafety(expression.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, expression);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(token) = item.unsafety {
            self.unsafety(token.span.start().line);
        }
        visit::visit_item_impl(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::{Visit, Visitor};

    fn faults(stage: &str, source: &str) -> Vec<String> {
        let mut visitor = Visitor {
            stage: stage.to_owned(),
            found: Vec::new(),
        };
        visitor.visit_file(&syn::parse_file(source).unwrap());
        visitor.found.into_iter().map(|(_, fault)| fault).collect()
    }

    #[test]
    fn an_import_that_points_back_is_found_in_every_form() {
        for source in [
            "use crate::engine::Session;",
            "use crate::{model::Secret, engine::{self}};",
            "use crate::engine as e;",
            "use crate::engine::*;",
            "fn f() { crate::engine::run() }",
            "fn f(_: &crate::engine::Session) {}",
        ] {
            assert_eq!(
                faults("policy", source),
                ["`policy` imports the later stage `engine`"],
                "{source}"
            );
        }
    }

    #[test]
    fn an_import_that_points_on_is_no_fault() {
        assert!(faults("engine", "use crate::policy::Ruling; use std::fs;").is_empty());
    }

    #[test]
    fn aya_and_unsafe_stay_in_kernel() {
        assert_eq!(
            faults("flow", "use aya::Ebpf; fn f() { unsafe { g() } }").len(),
            2
        );
        assert!(faults("kernel", "use aya::Ebpf; fn f() { unsafe { g() } }").is_empty());
    }
}
