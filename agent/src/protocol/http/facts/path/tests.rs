use super::read;

/// Readings as paths whose segments are joined by `|`.
fn readings(raw: &str) -> Vec<String> {
    read(raw).all.iter().map(|segments| segments.join("|")).collect()
}

#[test]
fn plain_paths_have_one_reading() {
    for (raw, wanted) in [
        ("/", ""),
        ("/v1/users/7", "v1|users|7"),
        ("/v1/users/", "v1|users|"),
        ("/a.b/..c/d.", "a.b|..c|d."),
        ("/%61dmin", "admin"),
        ("/caf%C3%A9/na%c3%afve", "café|naïve"),
        ("/a%20b", "a b"),
        ("/x=1,2:(y)@z'$", "x=1,2:(y)@z'$"),
    ] {
        assert_eq!(readings(raw), [wanted], "{raw}");
        assert_eq!(read(raw).doubt, None, "{raw}");
    }
}

#[test]
fn what_servers_read_differently_has_every_reading() {
    for (raw, wanted) in [
        ("/p/acme%2Freport/x", &["p|acme/report|x", "p|acme|report|x"][..]),
        ("//v1//users", &["|v1||users", "v1|users"]),
        ("/v1/users;admin=1/7", &["v1|users;admin=1|7", "v1|users|7"]),
        ("/public/x%3Badmin", &["public|x;admin", "public|x"]),
        ("/a%3Fb/c", &["a?b|c", "a"]),
        ("/a%23b", &["a#b", "a"]),
        ("/%2561dmin", &["%61dmin", "admin"]),
        ("/a%252Fb", &["a%2Fb", "a/b", "a|b"]),
        ("/x%25/y", &["x%|y"]),
    ] {
        let found = readings(raw);
        for one in wanted {
            assert!(
                found.iter().any(|reading| reading == one),
                "{raw}: {one} is not in {found:?}"
            );
        }
        assert_eq!(read(raw).doubt, None, "{raw}");
    }
}

#[test]
fn what_nobody_can_tell_is_in_doubt() {
    for raw in [
        "/a/../b",
        "/a/./b",
        "/..",
        "/a/%2e%2e/b",
        "/a/%2E./b",
        "/a/.%2e%2Fb",
        "/a/..%2Fb",
        "/a%2F..%2Fb",
        "/a/%252e%252e/b",
        "/a/%25252e%25252e/b",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/..%3Bx/b",
        "/a/.../b",
        "/a/%2e%2e%20/b",
        "/a/ /b",
        "/a\\b",
        "/a%5Cb",
        "/a%255cb",
        "/a/..%5cb",
        "/a%00b",
        "/a%00",
        "/a%0d%0aX:1",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%u002fb",
        "/a/%c0%ae%c0%ae/b",
        "/a%c0%afb",
        "/a%e0%80%afb",
        "/a%ff",
        "/%ef%bc%8e%ef%bc%8e/b",
        "/%ef%bd%81dmin",
        "/a%e2%88%95b",
        "/ad%e2%80%8bmin",
        "/ad%c2%admin",
        "/web.config::$DATA",
        "/a%3a%3a$DATA",
        "/%25252525",
        "*",
        "admin",
        "",
        "http://b/admin",
    ] {
        assert!(read(raw).doubt.is_some(), "{raw}: {:?}", read(raw));
    }
    assert!(read(&format!("/{}", "a".repeat(20_000))).doubt.is_some());
    assert!(
        read(&"/a;b%2F%3F".repeat(200)).doubt.is_some() || read(&"/a;b%2F%3F".repeat(200)).all.len() <= 128
    );
}
