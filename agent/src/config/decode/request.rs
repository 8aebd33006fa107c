//! Keys of `[[service.rule]]` for services of HTTP.

use std::net::IpAddr;

use serde_json::Value;

use crate::config::glob::Glob;
use crate::config::keys;
use crate::config::path_pattern::{PathPattern, PathPatternError};
use crate::config::reader::{Field, Table, Wrong, choose};
use crate::config::request::{Condition, FieldRule, GraphqlRule, RequestRule};
use crate::config::scalar;
use crate::model::GraphqlKind;

use super::or_default;

/// Keys that only services of HTTP have.
pub(super) const KEYS: [&str; 9] = [
    "methods", "hosts", "paths", "query", "headers", "json", "body_max", "grpc", "graphql",
];

/// Headers that rules cannot ask for, and why.
const OWN_HEADERS: [(&str, &str); 4] = [
    (
        "authorization",
        "what the workload sends in it is discarded before rules are asked",
    ),
    (
        "proxy-authorization",
        "what the workload sends in it is discarded before rules are asked",
    ),
    ("cookie", "cookies are credentials, and rules never see them"),
    (
        "host",
        "the host has a key of its own: hosts = [\"api.acme.test\"]",
    ),
];

pub(super) fn request(table: Table<'_>) -> Option<RequestRule> {
    let methods = list(table, "methods", method);
    let hosts = list(table, "hosts", host);
    let paths = list(table, "paths", path);
    let query = fields(table, "query", |name| Ok(name.to_owned()));
    let headers = fields(table, "headers", header);
    let json = fields(table, "json", json_path);
    let body_max = or_default(table.optional("body_max"), None, |field| {
        if field.is_integer() {
            field.integer(0, i64::MAX.unsigned_abs()).map(Some)
        } else {
            field.parsed(scalar::size).map(Some)
        }
    });
    let grpc = list(table, "grpc", grpc);
    let graphql = or_default(table.optional("graphql"), None, |field| {
        graphql(field.table(&keys::GRAPHQL)?).map(Some)
    });
    Some(RequestRule {
        methods: methods?,
        hosts: hosts?,
        paths: paths?,
        query: query?,
        headers: headers?,
        json: json?,
        body_max: body_max?,
        grpc: grpc?,
        graphql: graphql?,
    })
}

fn list<T>(table: Table<'_>, key: &'static str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Option<Vec<T>> {
    or_default(table.optional(key), Vec::new(), |field| {
        field.parsed_list("name at least one, or leave the key out to mean any", parse)
    })
}

fn method(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        return Ok(text.to_owned());
    }
    let upper = text.to_ascii_uppercase();
    let help = if upper != text && upper.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        format!("write \"{upper}\": methods are told apart by case")
    } else {
        "write a method in capital letters, such as \"GET\"".to_owned()
    };
    Err(Wrong::new(
        format!("\"{}\" is no method", text.escape_debug()),
        help,
    ))
}

fn host(text: &str) -> Result<String, Wrong> {
    if let Ok(address) = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        return Ok(address.to_string());
    }
    if text.chars().all(|c| matches!(c, '*' | '.')) {
        return Err(Wrong::new(
            format!("\"{text}\" matches every host"),
            "leave the key out to mean any",
        ));
    }
    scalar::dns_pattern(text).map_err(|wrong| {
        if text.contains(':') {
            Wrong::new(wrong.what, "write the host without its port")
        } else {
            wrong
        }
    })
}

fn path(text: &str) -> Result<PathPattern, Wrong> {
    PathPattern::parse(text).map_err(|error| {
        let help = match &error {
            PathPatternError::NoSlash => format!("write \"/{text}\", or \"/**/{text}\" for it anywhere"),
            PathPatternError::NotPath('?') => "write parameters under query = { … }".to_owned(),
            PathPatternError::NotPath(_) => "leave it out".to_owned(),
            PathPatternError::Dots => "write the path as a client sends it".to_owned(),
            PathPatternError::NotAlone(_) => {
                "write \"/v1/users/{id}\" for one segment, \"report-*\" for a part of one, \"/v1/orders/**\" for all below".to_owned()
            }
            PathPatternError::Encoding => "write \"%25\" for the character itself".to_owned(),
            PathPatternError::Glob(_) => "write \"*\" for any characters of one segment, \"[abc]\" for one of a set".to_owned(),
        };
        Wrong::new(format!("\"{}\" cannot be a path: {error}", text.escape_debug()), help)
    })
}

fn header(name: &str) -> Result<String, Wrong> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    let spelt = !lower.is_empty()
        && lower
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&b));
    if !spelt {
        return Err(Wrong::new(
            format!("\"{}\" is no name of a header", name.escape_debug()),
            "write a name such as \"X-Environment\"",
        ));
    }
    match OWN_HEADERS.iter().find(|(own, _)| *own == lower) {
        Some((_, why)) => Err(Wrong::new(
            format!("a rule cannot ask for \"{name}\": {why}"),
            "remove it",
        )),
        None => Ok(lower),
    }
}

fn json_path(text: &str) -> Result<String, Wrong> {
    match serde_json_path::JsonPath::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Wrong::new(
            format!("\"{}\" is no JSON path: {error}", text.escape_debug()),
            "write it as RFC 9535 has it, such as \"$.order.amount\" or \"$.items[*].sku\"",
        )),
    }
}

fn grpc(text: &str) -> Result<String, Wrong> {
    let parts = text.strip_prefix('/').unwrap_or(text).split_once('/');
    let fits = parts.is_some_and(|(service, method)| {
        !method.contains('/') && Glob::name(service).is_ok() && Glob::name(method).is_ok()
    });
    if fits {
        return Ok(text.strip_prefix('/').unwrap_or(text).to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" names no call", text.escape_debug()),
        "write \"acme.orders.Orders/Get\", \"acme.orders.Orders/*\" or \"*/Get*\"",
    ))
}

fn glob(text: &str) -> Result<String, Wrong> {
    match Glob::name(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Wrong::new(
            format!("\"{}\" cannot be used: {error}", text.escape_debug()),
            "write a name, or a pattern such as \"Get*\"",
        )),
    }
}

fn graphql(table: Table<'_>) -> Option<GraphqlRule> {
    let kinds = [
        ("query", GraphqlKind::Query),
        ("mutation", GraphqlKind::Mutation),
        ("subscription", GraphqlKind::Subscription),
    ];
    let kinds = or_default(table.optional("type"), Vec::new(), |field| {
        if field.is_list() {
            field.parsed_list("name at least one type, or remove the key", |text| {
                choose("type", text, &kinds, &[])
            })
        } else {
            field.one_of(&kinds, &[]).map(|kind| vec![kind])
        }
    });
    let names = or_default(table.optional("name"), Vec::new(), |field| {
        if field.is_list() {
            field.parsed_list("name at least one operation, or remove the key", glob)
        } else {
            field.parsed(glob).map(|name| vec![name])
        }
    });
    let fields = list(table, "fields", glob);
    let rule = GraphqlRule {
        kinds: kinds?,
        names: names?,
        fields: fields?,
    };
    if rule == GraphqlRule::default() {
        table.error(
            "\"graphql\" asks nothing",
            "write type = \"query\", name = \"Get*\" or fields = [\"user\"]",
        );
        return None;
    }
    Some(rule)
}

fn fields(
    table: Table<'_>,
    key: &'static str,
    name: impl Fn(&str) -> Result<String, Wrong>,
) -> Option<Vec<FieldRule>> {
    let Some(field) = table.optional(key) else {
        return Some(Vec::new());
    };
    let entries = Table::free(field)?;
    if entries.is_empty() {
        field.error(
            format!("\"{key}\" asks nothing"),
            "name at least one, or remove the key",
        );
        return None;
    }
    let mut rules: Vec<FieldRule> = Vec::with_capacity(entries.len());
    let mut complete = true;
    for entry in entries {
        let named = match name(entry.key()) {
            Ok(named) if rules.iter().any(|rule| rule.name == named) => {
                entry.error(format!("\"{}\" is given twice", entry.key()), "keep one of them");
                None
            }
            Ok(named) => Some(named),
            Err(Wrong { what, help }) => {
                entry.error(what, help);
                None
            }
        };
        match (named, condition(entry)) {
            (Some(name), Some(condition)) => rules.push(FieldRule { name, condition }),
            _ => complete = false,
        }
    }
    complete.then_some(rules)
}

fn condition(field: Field<'_>) -> Option<Condition> {
    if field.is_table() {
        return asked(field.table(&keys::CONDITION)?);
    }
    if field.is_list() {
        let items = field.list("name at least one value")?;
        let values: Vec<Value> = items.iter().filter_map(|item| item.json_scalar()).collect();
        return (values.len() == items.len()).then_some(Condition::OneOf(values));
    }
    field.json_scalar().map(|value| Condition::OneOf(vec![value]))
}

fn asked(table: Table<'_>) -> Option<Condition> {
    let like = or_default(table.optional("like"), None, |field| field.parsed(glob).map(Some))?;
    let number = |key| {
        or_default(table.optional(key), None, |field| match field.json_scalar()? {
            Value::Number(number) => Some(Some(number)),
            _ => {
                field.error(format!("\"{key}\" has to be a number"), "write it without quotes");
                None
            }
        })
    };
    let (min, max) = (number("min"), number("max"));
    let present = or_default(table.optional("present"), None, |field| field.boolean().map(Some))?;
    let (min, max) = (min?, max?);
    let range = min.is_some() || max.is_some();
    if min
        .as_ref()
        .zip(max.as_ref())
        .is_some_and(|(min, max)| min.as_f64() > max.as_f64())
    {
        table.error(
            "\"min\" is greater than \"max\": nothing is between",
            "exchange them",
        );
        return None;
    }
    match (like, range, present) {
        (Some(like), false, None) => Some(Condition::Like(like)),
        (None, true, None) => Some(Condition::Range { min, max }),
        (None, false, Some(present)) => Some(Condition::Present(present)),
        _ => {
            table.error(
                "a condition is one of like, min with max, and present",
                "write { like = \"svc-*\" }, { min = 1, max = 100 } or { present = false }; or a value, or a list of them",
            );
            None
        }
    }
}
