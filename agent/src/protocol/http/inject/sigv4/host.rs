//! Service and region in the name of a host of AWS.

/// What a name says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) service: Option<String>,
    pub(super) region: Option<String>,
}

const DOMAINS: &[&str] = &[".amazonaws.com.cn", ".amazonaws.com", ".api.aws", ".on.aws"];

/// Services whose name in signatures is not the one in their hosts.
const SIGNED_AS: &[(&str, &str)] = &[
    ("bedrock-runtime", "bedrock"),
    ("email", "ses"),
    ("email-smtp", "ses"),
    ("lambda-url", "lambda"),
    ("models-v2-lex", "lex"),
    ("runtime-v2-lex", "lex"),
    ("s3-accelerate", "s3"),
    ("s3-accesspoint", "s3"),
    ("s3-control", "s3"),
    ("s3-website", "s3"),
];

/// Services that have one host for all regions, and are signed for in this one.
const GLOBAL: &str = "us-east-1";

/// `s3.eu-central-1.amazonaws.com`, `bucket.s3.amazonaws.com`, `ID.execute-api.eu-west-1.amazonaws.com`, …
pub(super) fn read(authority: &str) -> Named {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let Some(rest) = DOMAINS.iter().find_map(|domain| host.strip_suffix(domain)) else {
        return Named::default();
    };
    let mut labels: Vec<&str> = rest.split('.').filter(|label| *label != "dualstack").collect();
    let Some(last) = labels.pop() else {
        return Named::default();
    };
    // `s3-eu-west-1` is an older way of writing.
    if let Some(region) = last.strip_prefix("s3-").filter(|region| is_region(region)) {
        return named("s3", region);
    }
    if !is_region(last) {
        // One host for all regions, or a bucket before it.
        return named(last, GLOBAL);
    }
    match labels.pop() {
        Some(service) => named(service, last),
        None => Named {
            service: None,
            region: Some(last.to_owned()),
        },
    }
}

fn named(service: &str, region: &str) -> Named {
    let signed = SIGNED_AS.iter().find(|(host, _)| *host == service);
    // Which region an accelerated bucket is in, its host does not say.
    let everywhere = service == "s3-accelerate";
    Named {
        service: Some(signed.map_or(service, |(_, signed)| signed).to_owned()),
        region: (!everywhere).then(|| region.to_owned()),
    }
}

/// `eu-central-1`, `us-gov-west-1`.
fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let continent = parts.next().unwrap_or_default();
    let number = parts.next_back().unwrap_or_default();
    let middle: Vec<&str> = parts.collect();
    continent.len() == 2
        && continent.bytes().all(|b| b.is_ascii_lowercase())
        && !middle.is_empty()
        && middle
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase()))
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn hosts_name_service_and_region() {
        for (host, service, region) in [
            ("s3.eu-central-1.amazonaws.com", "s3", "eu-central-1"),
            ("acme.s3.eu-central-1.amazonaws.com:443", "s3", "eu-central-1"),
            ("a.b.s3-eu-west-1.amazonaws.com", "s3", "eu-west-1"),
            ("s3.dualstack.us-west-2.amazonaws.com", "s3", "us-west-2"),
            ("acme.s3.amazonaws.com", "s3", "us-east-1"),
            ("sts.amazonaws.com", "sts", "us-east-1"),
            (
                "DynamoDB.us-gov-west-1.amazonaws.com.",
                "dynamodb",
                "us-gov-west-1",
            ),
            (
                "a1b2.execute-api.eu-west-1.amazonaws.com",
                "execute-api",
                "eu-west-1",
            ),
            ("x.lambda-url.eu-west-1.on.aws", "lambda", "eu-west-1"),
            ("123.dkr.ecr.eu-west-1.amazonaws.com", "ecr", "eu-west-1"),
            ("email.eu-west-1.amazonaws.com", "ses", "eu-west-1"),
            ("ec2.cn-north-1.amazonaws.com.cn", "ec2", "cn-north-1"),
        ] {
            let named = read(host);
            assert_eq!(
                (named.service.as_deref(), named.region.as_deref()),
                (Some(service), Some(region)),
                "{host}"
            );
        }
        let anywhere = read("acme.s3-accelerate.amazonaws.com");
        assert_eq!((anywhere.service.as_deref(), anywhere.region), (Some("s3"), None));
        for other in [
            "127.0.0.1:5000",
            "s3.acme.test",
            "amazonaws.com.acme.test",
            "[::1]:80",
        ] {
            assert_eq!(read(other), super::Named::default(), "{other}");
        }
    }
}
