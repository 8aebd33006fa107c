//! A problem for people.

use super::Problem;

/// A page. Nothing in it is anybody's markup.
pub(super) fn html(problem: &Problem, instance: &str) -> String {
    let rules: Vec<&str> = problem.rules.iter().map(crate::model::RuleName::as_str).collect();
    let rules = if rules.is_empty() {
        String::new()
    } else {
        format!("<dt>Rules</dt><dd>{}</dd>", escaped(&rules.join(", ")))
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:45rem;margin:4rem auto;padding:0 1rem}}\
         dt{{font-weight:600;margin-top:.75rem}}dd{{margin:0}}</style></head>\n\
         <body><h1>{title}</h1><p>{detail}</p><p>{hint}</p><dl>{rules}<dt>Record</dt><dd>{instance}</dd></dl></body></html>\n",
        status = problem.status.as_u16(),
        title = escaped(problem.title()),
        detail = escaped(&problem.detail),
        hint = escaped(&problem.hint),
        instance = escaped(instance),
    )
}

/// A few lines.
pub(super) fn text(problem: &Problem, instance: &str) -> String {
    format!(
        "{}\n{}\n({instance})\n",
        one_line(&problem.detail),
        one_line(&problem.hint)
    )
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
