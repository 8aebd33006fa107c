//! Against moto's server; signatures against AWS' published vectors and against botocore, which signs for AWS' own tools.

use std::process::Command;

use chrono::{DateTime, Utc};

use super::super::issuer::double::{Double, Reply};
use super::super::moto::{Moto, python};
use super::super::tests::ask;
use super::*;
use crate::config::{AwsKeysSpec, IssuerSpec, Share, SourceSpec};
use crate::model::Secret;
use crate::web::HeaderValue;

const ROLE: &str = "arn:aws:iam::123456789012:role/report";

fn keys(id: &str, secret: &str, token: Option<&str>) -> AwsKeys {
    let secret_of = |text: &str| Secret::new(text.as_bytes().to_vec());
    AwsKeys {
        id: secret_of(id),
        secret: secret_of(secret),
        token: token.map(secret_of),
        region: "us-east-1".into(),
    }
}

fn spec(issuer: IssuerSpec) -> AwsSpec {
    AwsSpec {
        issuer,
        region: "us-east-1".into(),
        role: ROLE.into(),
        keys: None,
        session_policy: None,
        external_id: None,
        ttl: Duration::from_mins(15),
        share: Share::Session,
    }
}

fn at(url: &str) -> IssuerSpec {
    IssuerSpec {
        endpoint: url.into(),
        ca: None,
        timeout: Duration::from_secs(10),
    }
}

fn proven(kind: TokenKind) -> Ask {
    let mut ask = ask(Share::Session);
    ask.token = Some(JobToken {
        kind,
        secret: Secret::new(b"ey.job.token".to_vec()),
    });
    ask
}

async fn make(spec: &AwsSpec, ask: &Ask) -> Result<Made, MakeError> {
    maker(spec).make(ask, None).await
}

fn access_key(dir: &tempfile::TempDir, id: &str, secret: &str) -> AwsKeysSpec {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.path().join("secret");
    std::fs::write(&path, secret).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    AwsKeysSpec {
        id: SourceSpec::Literal(id.into()),
        secret: SourceSpec::File(path),
    }
}

/// Prints what a script of boto3 says of the server at `url`.
fn boto(url: &str, script: &str) -> serde_json::Value {
    let output = Command::new(python())
        .args(["-c", script, url])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn signatures_are_those_of_the_published_vectors() {
    let at: DateTime<Utc> = "2015-08-30T12:36:00Z".parse().unwrap();
    let plain = keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
    let session = keys(
        "AKIDEXAMPLE",
        "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        Some("6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
    );
    for (name, keys, method, path, more, signature) in [
        (
            "get-vanilla",
            &plain,
            "GET",
            "/",
            &[][..],
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            &plain,
            "GET",
            "/?Param2=value2&Param1=value1",
            &[],
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-header-value-trim",
            &plain,
            "GET",
            "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "post-vanilla",
            &plain,
            "POST",
            "/",
            &[],
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-vanilla-query",
            &plain,
            "POST",
            "/?Param1=value1",
            &[],
            "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        ),
        (
            "get-vanilla-with-session-token",
            &session,
            "GET",
            "/",
            &[],
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        ),
    ] {
        let mut headers = HeaderMap::new();
        for (header, value) in more {
            headers.insert(*header, HeaderValue::from_static(value));
        }
        let url = format!("https://example.amazonaws.com{path}");
        let request = ToSign {
            method,
            url: &url,
            headers: &headers,
            body: b"",
        };
        let added = sign(keys, "service", &request, at.into()).unwrap();
        let authorization = added["authorization"].to_str().unwrap();
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            ),
            "{name}: {authorization}"
        );
        assert!(
            authorization.ends_with(&format!("Signature={signature}")),
            "{name}: {authorization}"
        );
        assert_eq!(added["x-amz-date"], "20150830T123600Z", "{name}");
        assert_eq!(
            added.contains_key("x-amz-security-token"),
            keys.token.is_some(),
            "{name}"
        );
        assert!(
            !format!("{added:?}").contains("Signature"),
            "a signature is in a log: {added:?}"
        );
    }
}

#[tokio::test]
async fn the_signature_on_a_question_is_the_one_that_botocore_makes() {
    let double = Double::start(Reply::Closes);
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(double.spec("/"));
    spec.keys = Some(access_key(&dir, "AKIDEXAMPLE", "wJalr/XUtnFEMI+K7"));
    spec.external_id = Some("acme report".into());
    spec.session_policy = Some(r#"{"Statement":[]}"#.into());
    make(&spec, &ask(Share::Session)).await.unwrap_err();
    let asked = double.asked().pop().unwrap();
    assert_eq!(asked.field("Action").as_deref(), Some("AssumeRole"));
    assert_eq!(asked.field("ExternalId").as_deref(), Some("acme report"));
    assert_eq!(asked.field("DurationSeconds").as_deref(), Some("900"));
    let authorization = asked.header("authorization").unwrap().to_owned();
    let (_, signed) = authorization.split_once("SignedHeaders=").unwrap();
    let (signed, _) = signed.split_once(',').unwrap();
    let headers: serde_json::Map<String, serde_json::Value> = signed
        .split(';')
        .map(|name| (name.to_owned(), asked.header(name).unwrap().into()))
        .collect();
    let script = r"
import json, sys, datetime
import botocore.auth, botocore.awsrequest, botocore.credentials
question = json.loads(sys.argv[1])
when = datetime.datetime.strptime(question['headers']['x-amz-date'], '%Y%m%dT%H%M%SZ')
class Then(datetime.datetime):
    @classmethod
    def utcnow(cls): return when
    @classmethod
    def now(cls, tz=None): return when
if hasattr(botocore.auth, 'get_current_datetime'):
    botocore.auth.get_current_datetime = lambda *a, **k: when
else:
    botocore.auth.datetime.datetime = Then
request = botocore.awsrequest.AWSRequest('POST', question['url'], headers={k: v for k, v in question['headers'].items() if k != 'x-amz-date'}, data=question['body'])
botocore.auth.SigV4Auth(botocore.credentials.Credentials('AKIDEXAMPLE', 'wJalr/XUtnFEMI+K7'), 'sts', 'us-east-1').add_auth(request)
json.dump(request.headers['Authorization'], sys.stdout)
";
    let question = serde_json::json!({"url": double.url("/"), "headers": headers, "body": asked.body});
    assert_eq!(boto(&question.to_string(), script), authorization);
}

#[tokio::test]
async fn the_workloads_token_and_an_access_key_each_assume_a_role_at_a_real_server() {
    let Some(server) = Moto::start() else { return };
    // The workload's own token: the host has no secret of AWS.
    let mut spec = spec(at(&server.url));
    let made = make(&spec, &proven(TokenKind::Oidc)).await.unwrap();
    let Material::Aws(keys) = &made.material else {
        panic!("{:?}", made.material)
    };
    assert!(keys.id.expose().starts_with(b"ASIA") && keys.token.is_some());
    let left = made.expires.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(
        left > Duration::from_mins(14) && left < Duration::from_mins(15),
        "{left:?}"
    );
    assert!(made.handle.is_none());

    // An access key, with every signature looked at.
    let who = boto(
        &server.url,
        r"
import boto3, json, sys, urllib.request
iam = boto3.client('iam', endpoint_url=sys.argv[1])
iam.create_user(UserName='agent')
key = iam.create_access_key(UserName='agent')['AccessKey']
allow = {'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 'sts:AssumeRole', 'Resource': '*'}]}
iam.put_user_policy(UserName='agent', PolicyName='assume', PolicyDocument=json.dumps(allow))
trust = {'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Principal': {'AWS': '*'}, 'Action': 'sts:AssumeRole'}]}
iam.create_role(RoleName='report', AssumeRolePolicyDocument=json.dumps(trust))
urllib.request.urlopen(urllib.request.Request(sys.argv[1] + '/moto-api/reset-auth', data=b'0', headers={'Content-Type': 'text/plain'}, method='POST'))
json.dump({'id': key['AccessKeyId'], 'secret': key['SecretAccessKey']}, sys.stdout)
",
    );
    let dir = tempfile::tempdir().unwrap();
    let (id, secret) = (who["id"].as_str().unwrap(), who["secret"].as_str().unwrap());
    spec.keys = Some(access_key(&dir, id, secret));
    let asking = ask(Share::Session);
    let made = make(&spec, &asking).await.unwrap();
    let Material::Aws(keys) = &made.material else {
        panic!("{:?}", made.material)
    };
    assert!(keys.id.expose().starts_with(b"ASIA"));

    spec.keys = Some(access_key(&dir, id, "hunter2"));
    let why = make(&spec, &asking).await.unwrap_err().error.to_string();
    assert!(why.contains("refused with 403 Forbidden"), "{why}");
    assert!(!why.contains("hunter2"), "{why}");
}

#[tokio::test]
async fn the_session_is_called_after_its_record_and_a_policy_narrows_it() {
    let double = Double::start(Reply::Closes);
    let mut spec = spec(double.spec("/"));
    spec.session_policy = Some(r#"{"Statement":[]}"#.into());
    let mut asking = proven(TokenKind::Oidc);
    asking.owner.workload = "a-workload-with-a-name-of-the-longest-that-is-taken".into();
    make(&spec, &asking).await.unwrap_err();
    let asked = double.asked().pop().unwrap();
    assert_eq!(
        asked.field("Action").as_deref(),
        Some("AssumeRoleWithWebIdentity")
    );
    assert_eq!(asked.field("WebIdentityToken").as_deref(), Some("ey.job.token"));
    assert_eq!(asked.field("RoleArn").as_deref(), Some(ROLE));
    assert_eq!(asked.field("Policy").as_deref(), Some(r#"{"Statement":[]}"#));
    assert_eq!(asked.header("authorization"), None);
    let name = asked.field("RoleSessionName").unwrap();
    assert!(name.starts_with(&asking.owner.session.to_string()), "{name}");
    assert!(name.len() == 64 && name.contains("@a-workload"), "{name}");
}

#[tokio::test]
async fn what_no_good_server_says_begins_no_session_and_no_secret_is_in_the_reason() {
    let mut double = Double::start(Reply::Closes);
    let spec = spec(double.spec("/"));
    let elsewhere = Double::start(Reply::Closes);
    let granted = |ends: &str| {
        format!(
            r#"<R xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Credentials><AccessKeyId>hunter2</AccessKeyId><SecretAccessKey>hunter2</SecretAccessKey><SessionToken>hunter2</SessionToken><Expiration>{ends}</Expiration></Credentials></R>"#
        )
    };
    for (reply, said) in [
        (Reply::Closes, "cannot be reached"),
        (Reply::Hangs, "did not answer within 1 s"),
        (Reply::Floods, "more than 65536 bytes"),
        (Reply::Is("200 OK", "hunter2".into()), "no XML"),
        (Reply::Is("200 OK", granted("hunter2")), "does not say when they end"),
        (Reply::Is("200 OK", granted(&Utc::now().to_rfc3339())), "end at once"),
        (
            Reply::Is(
                "400 Bad Request",
                r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Code>ExpiredTokenException</Code><Message>hunter2</Message></Error></ErrorResponse>"#.into(),
            ),
            "refused with 400 Bad Request (ExpiredTokenException)",
        ),
        (
            Reply::With("302 Found", format!("location: {}", elsewhere.url("/")), String::new()),
            "refused with 302",
        ),
    ] {
        double.replies(reply.clone());
        let error = make(&spec, &proven(TokenKind::Oidc)).await.unwrap_err().error;
        let why = error.to_string();
        assert!(why.contains(said) && !why.contains("hunter2"), "{reply:?}: {why}");
    }
    assert!(elsewhere.asked().is_empty());
    let questions = double.asked().len();
    for (asking, said) in [
        (ask(Share::Session), "no token that could be shown"),
        (proven(TokenKind::Saml), "a SAML assertion"),
    ] {
        let why = make(&spec, &asking).await.unwrap_err().error.to_string();
        assert!(why.contains(said), "{why}");
    }
    assert_eq!(double.asked().len(), questions);
    double.go_down();
    let why = make(&spec, &proven(TokenKind::Oidc))
        .await
        .unwrap_err()
        .error
        .to_string();
    assert!(why.contains("cannot be reached"), "{why}");
}
